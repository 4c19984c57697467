"""What every next-item model is put beside.

popularity    how often an item was clicked
last_day      how often in the last day of what is learned from
transitions   how often it followed the last item, popularity among the rest
item_knn      cosine of the users that two items share, summed over the history with weights .8^age
last_group    popularity within the group of the last item
ials          factors for implicit feedback, the history folded in; needs the package `implicit`
random        a fixed order of all items
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recsys.sequences.data import DAY_S, Sequences

Histories = Sequence[np.ndarray]
Scorer = Callable[[Histories, Histories | None], np.ndarray]
"""Histories (B), their times and those of the questions where known -> scores (B, n + 1)."""
AGE = 0.8
SHRINK = 10.0
"""Users that two items are taken to share with nobody."""
FACTORS, PASSES, TRUST = 64, 12, 10.0


def baselines(learned: Sequences) -> dict[str, Scorer]:
    """All that the file allows, fitted."""
    items = len(learned.names)
    count = counts(learned.items, items)
    found: dict[str, Scorer] = {
        "popularity": alike(count),
        "transitions": transitions(learned.items, items, count),
        "item_knn": item_knn(learned.items, items, count),
        "random": alike(np.random.default_rng(0).random(items + 1)),
    }
    if learned.times is not None:
        edge = max(part[-1] for part in learned.times) - DAY_S
        late = [part[clock > edge] for part, clock in zip(learned.items, learned.times, strict=True)]
        found["last_day"] = alike(counts(late, items) + 1e-6 * count)
    if learned.groups is not None:
        found["last_group"] = last_group(learned.groups, count)
    factors = ials(learned.items, items)
    if factors is not None:
        found["ials"] = factors
    return found


def counts(parts: Sequence[np.ndarray], items: int) -> np.ndarray:
    """(n + 1,) clicks of each item."""
    return np.bincount(np.concatenate(parts), minlength=items + 1).astype(float)


def alike(values: np.ndarray) -> Scorer:
    """The same scores for everybody."""
    return lambda histories, _: np.repeat(values[None], len(histories), 0)


def transitions(parts: Sequence[np.ndarray], items: int, count: np.ndarray) -> Scorer:
    """From the last item alone."""
    move = moves(parts, items)
    return lambda histories, _: np.asarray(move[last(histories)].todense()) + 1e-6 * count


def moves(parts: Sequence[np.ndarray], items: int) -> Any:
    """How often item j follows item i, sparse (n + 1, n + 1)."""
    from scipy.sparse import coo_matrix

    before = np.concatenate([part[:-1] for part in parts])
    after = np.concatenate([part[1:] for part in parts])
    size = items + 1
    return coo_matrix((np.ones(len(before)), (before, after)), (size, size)).tocsr()


def item_knn(parts: Sequence[np.ndarray], items: int, count: np.ndarray) -> Scorer:
    """By who else had both."""
    table = owned(parts, items)
    shared = (table.T @ table).tocoo()
    own = np.sqrt(np.asarray(table.sum(0)).ravel())
    keep = shared.row != shared.col
    value = shared.data[keep] / (own[shared.row[keep]] * own[shared.col[keep]] + SHRINK)
    from scipy.sparse import coo_matrix

    near = coo_matrix((value, (shared.row[keep], shared.col[keep])), (items + 1, items + 1)).tocsr()

    def score(histories: Histories, _: Histories | None) -> np.ndarray:
        row = np.repeat(np.arange(len(histories)), [len(part) for part in histories])
        weight = np.concatenate([AGE ** np.arange(len(part))[::-1] for part in histories])
        seen = coo_matrix((weight, (row, np.concatenate(histories))), (len(histories), items + 1)).tocsr()
        found: Any = seen @ near
        return found.toarray() + 1e-9 * count

    return score


def owned(parts: Sequence[np.ndarray], items: int) -> Any:
    """Who has had what, sparse (U, n + 1) of ones."""
    from scipy.sparse import coo_matrix

    row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    table = coo_matrix((np.ones(len(row)), (row, np.concatenate(parts))), (len(parts), items + 1)).tocsr()
    table.data[:] = 1.0
    return table


def last_group(groups: np.ndarray, count: np.ndarray) -> Scorer:
    """Popular items of the group of the last item first, the others after them."""
    most = count.max() + 1

    def score(histories: Histories, _: Histories | None) -> np.ndarray:
        mine = groups[last(histories)][:, None]
        return count + most * ((groups == mine) & (mine > 0))

    return score


def ials(parts: Sequence[np.ndarray], items: int) -> Scorer | None:
    """Factors by alternating least squares; None where the package is not installed."""
    try:
        from implicit.als import AlternatingLeastSquares  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    model = AlternatingLeastSquares(
        factors=min(FACTORS, items),
        iterations=PASSES,
        alpha=TRUST,
        random_state=0,
        num_threads=1,
        use_gpu=False,
    )
    model.fit(owned(parts, items).astype(np.float32), show_progress=False)

    def score(histories: Histories, _: Histories | None) -> np.ndarray:
        users = model.recalculate_user(np.arange(len(histories)), owned(histories, items).astype(np.float32))
        return np.asarray(users) @ np.asarray(model.item_factors).T

    return score


def last(histories: Histories) -> list[int]:
    """Last item of each."""
    return [int(part[-1]) for part in histories]
