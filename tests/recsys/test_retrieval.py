"""Exact search and exact draws of large tables."""

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from recsys.models.interest import near
from recsys.retrieval.exact import ItemIndex
from recsys.slates import FIRST
from recsys.trained import Trained
from tests.recsys.market import model

RANDOM = np.random.default_rng(0)
MEANS = RANDOM.standard_normal((20_000, 8)).astype(np.float32)
SPREAD = RANDOM.uniform(0.05, 0.4, MEANS.shape).astype(np.float32)
USERS = RANDOM.standard_normal((3, 8)).astype(np.float32)
INDEX = ItemIndex(MEANS, SPREAD)


def test_the_search_is_exact_with_and_without_a_filter() -> None:
    scores = USERS @ MEANS.T
    items, values = INDEX.top(USERS, 25)
    assert (items == np.argsort(-scores, 1, kind="stable")[:, :25]).all()
    assert values == pytest.approx(np.take_along_axis(scores, items, 1), abs=1e-5)
    allowed = RANDOM.random(len(MEANS)) < 0.02
    scores[:, ~allowed] = -np.inf
    assert (INDEX.top(USERS, 25, allowed)[0] == np.argsort(-scores, 1, kind="stable")[:, :25]).all()


def test_users_are_finished_where_norms_say_so_and_no_answer_changes() -> None:
    """Norms that fall tenfold: most blocks are never looked at, with ties and roundings at the edge."""
    random = np.random.default_rng(3)
    means = random.integers(-4, 5, (30_000, 6)).astype(np.float32)
    means[random.random(len(means)) < 0.8] *= 0.1
    users = np.concatenate([random.integers(-2, 3, (20, 6)), means[:2] / 3, np.zeros((1, 6))])
    scores = users.astype(np.float32) @ means.T
    for few in (users, users[:2], users[-1:]):
        items, values = ItemIndex(means).top(few, 40)
        expected = np.sort(few.astype(np.float64) @ means.astype(np.float64).T, 1)[:, ::-1][:, :40]
        np.testing.assert_allclose(values, expected, atol=1e-5)
        assert (np.diff(np.sort(items, 1), axis=1) > 0).all()
    whole = np.argsort(-scores[:20], 1, kind="stable")[:, :40]
    exact = (scores[:20] == np.round(scores[:20], 5)).all(1)
    assert (ItemIndex(means).top(users[:20], 40)[0][exact] == whole[exact]).all()


def test_ties_go_to_the_lower_number() -> None:
    same = np.ones((9000, 4), np.float32)
    assert ItemIndex(same).top(np.ones(4), 5)[0].tolist() == [[0, 1, 2, 3, 4]]


def test_thinned_draws_have_the_law_of_full_draws_and_draw_little() -> None:
    z, repeats = USERS[:1], 500
    mean, deviation = (z @ MEANS.T)[0], np.sqrt(z**2 @ (SPREAD**2).T)[0]
    ours, theirs, drawn = np.zeros(len(MEANS)), np.zeros(len(MEANS)), 0
    best: list[list[float]] = [[], []]
    for seed in range(repeats):
        items, values, count = INDEX.thompson(z, 10, seed)
        ours[items[0]] += 1
        drawn += count
        full = mean + deviation * RANDOM.standard_normal(len(MEANS))
        theirs[np.argpartition(-full, 10)[:10]] += 1
        best[0].append(float(values[0, 0]))
        best[1].append(float(full.max()))
    often = np.argsort(-(ours + theirs))[:40]
    share = (ours + theirs)[often] / (2 * repeats)
    gap = (ours - theirs)[often] / np.sqrt(2 * repeats * share * (1 - share) + 1e-9)
    assert 0.6 < gap.std() < 1.5
    assert abs(np.mean(best[0]) - np.mean(best[1])) < 4 * np.std(best[1]) / repeats**0.5
    assert drawn / repeats < 17_000  # the first blocks are drawn in full, of the rest next to nothing


def test_a_draw_is_a_function_of_its_seed_and_zero_is_greedy() -> None:
    one, two = INDEX.thompson(USERS, 5, 7), INDEX.thompson(USERS, 5, 7)
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()
    assert (INDEX.thompson(USERS, 5, 8)[1] != one[1]).any()
    assert (INDEX.thompson(USERS, 5, 7, temperature=0.0)[0] == INDEX.top(USERS, 5)[0]).all()


def test_impossible_requests_are_refused() -> None:
    few = np.zeros(len(MEANS), bool)
    few[:3] = True
    for call in (
        lambda: INDEX.top(USERS, 4, few),
        lambda: INDEX.top(USERS, 4, few[:10]),
        lambda: INDEX.top(USERS, 30_000),
        lambda: ItemIndex(MEANS).thompson(USERS, 4, 0),
        lambda: ItemIndex(MEANS[:0]),
    ):
        with pytest.raises(DataError):
            call()


def test_a_thinned_draw_has_the_law_of_a_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.history import parse_history, steps_from
    from recsys.retrieval.draws import ItemDraws

    found = model()
    monkeypatch.setattr("recsys.retrieval.draws.FULL", 20)  # so that most of 240 items are thinned
    network, k, repeats = found.network, 4, 600
    steps = steps_from([parse_history([40, 90, 41], found.catalogue)])
    with torch.inference_mode():
        means = network.rank(steps)[0].double().numpy()
        means[:3] = -np.inf
        source = ItemDraws.of(network, network.last(steps), means, k, 1.0)
        full = np.zeros((2, len(means)))
        best = [[], []]
        random = np.random.default_rng(0)
        for _ in range(repeats):
            chosen, values, _ = source.drawn(k, random)
            full[0, chosen] += 1
            best[0].append(values[0])
            e = random.standard_normal((len(means), source.dims)).astype(np.float32)
            moved = network.items.placed(
                network.items.mean + network.items.log_scale.exp() * torch.from_numpy(e)
            )
            base = network.items.tables()
            shift = near(source.z, moved.v, None) - near(source.z, base.v, None)
            whole = means + (source.weight @ shift + moved.q - base.q).double().numpy()
            chosen = np.argsort(-whole)[:k]
            full[1, chosen] += 1
            best[1].append(whole[chosen[0]])
    often = np.flatnonzero(full.sum(0) > 60)
    share = full / repeats
    spread = np.sqrt(2 * share.mean(0) * (1 - share.mean(0)) / repeats)[often]
    gaps = np.abs(share[0] - share[1])[often] / np.maximum(spread, 1e-3)
    assert gaps.mean() < 1.2
    assert gaps.max() < 4.5
    assert abs(np.mean(best[0]) - np.mean(best[1])) < 4 * np.std(best[0]) * (2 / repeats) ** 0.5


def test_far_items_are_passed_over_and_those_without_a_chance_never_come() -> None:
    from recsys.retrieval.draws import Field, thinned

    random = np.random.default_rng(0)
    means = -np.abs(random.standard_normal(20_000)) * 3
    means[17] = -np.inf
    field = Field.of(means, np.full(20_000, 0.05), 9, 10)
    items, values, drawn = thinned(field, 9, 10, random, lambda rows, e: means[rows] + 0.05 * e[:, 0])
    assert drawn < 1500
    assert 17 not in items
    assert (np.diff(values) <= 0).all()
    assert len(set(items.tolist())) == 10


@pytest.mark.parametrize("library", ["faiss", "usearch"])
@pytest.mark.parametrize("score", ["product", "distance"])
def test_neighbour_lists_hold_most_of_the_exact_answer_and_the_unseen_hopefuls(
    library: str, score: str
) -> None:
    pytest.importorskip(library)
    from recsys.retrieval.ann import AnnIndex, missed, recall

    random = np.random.default_rng(0)
    centre = random.standard_normal((30, 8))
    group = random.integers(0, 30, 4000)
    means = (centre[group] + 0.4 * random.standard_normal((4000, 8))).astype(np.float32)
    spread = np.full(4000, 0.05, np.float32)
    means[7] = centre[group[7]] + 1.5
    spread[7] = 5.0  # never shown: nobody knows
    users = (centre[group[:20]] + 0.2 * random.standard_normal((20, 8))).astype(np.float32)
    index = AnnIndex(means, spread, group, score, library)

    def exact(z: np.ndarray) -> np.ndarray:
        return means @ z if score == "product" else -np.linalg.norm(means - z, axis=1)

    if score == "product":
        assert recall(index, ItemIndex(means, spread), users, 20) > 0.95
    wanted = [np.argsort(-exact(z), kind="stable")[:20] for z in users]
    held = [np.isin(row, index.candidates(z)).mean() for row, z in zip(wanted, users, strict=True)]
    assert np.mean(held) > 0.95
    z = centre[group[7]].astype(np.float32)
    assert 7 in index.candidates(z, listed=5)
    assert index.top(z, 5).tolist() == np.argsort(-exact(z), kind="stable")[:5].tolist()
    drawn = [7 in index.thompson(z, 5, np.random.default_rng(seed)) for seed in range(40)]
    assert (2 if score == "product" else 0) <= sum(drawn) < 35
    items = np.array([3, 7, 90])
    values = index.drawn(z, items, random, 0.5, 4000)
    whole = means[items] + 0.5 * spread[items, None] * random.standard_normal((4000, 3, 8)).astype(np.float32)
    full = whole @ z if score == "product" else -np.linalg.norm(whole - z, axis=-1)
    error = full.std(0) * (2 / 4000) ** 0.5
    assert (np.abs(values.mean(0) - full.mean(0)) < 4.5 * error).all()
    np.testing.assert_allclose(values.std(0), full.std(0), rtol=0.1)
    assert 0 <= missed(index, users, 20) <= 1
    with pytest.raises(DataError, match="4000 items"):
        AnnIndex(means, spread, group[:9])


def test_lists_of_no_library_or_score_are_refused() -> None:
    from recsys.retrieval.ann import AnnIndex

    rows = np.zeros((4, 2), np.float32)
    with pytest.raises(ConfigError, match="by faiss or usearch"):
        AnnIndex(rows, rows, np.zeros(4, int), library="annoy")


def test_a_shelf_gives_the_best_items_and_draws_with_the_law_of_full_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 600 repeats each, the shares of items in the slate agree within what chance allows."""
    from recsys.retrieval import shelf as room
    from recsys.retrieval.shelf import Ready, Shelf

    monkeypatch.setattr(room, "FULL", 8)
    monkeypatch.setattr(room, "BLOCK", 4)
    kept = Trained.load("recsys-simulated")
    network, repeats, k = kept.network, 600, 3
    network.shelf = None
    state = kept.state([40, 90, 300])
    ready = Ready.of(network, state)[0]
    shelf = Shelf.of(network)
    with torch.inference_mode():
        scores = network.rank_state(state)[0].double().numpy()
    scores[:FIRST] = -np.inf
    hidden = np.sort(np.argsort(-scores)[[0, 4]])
    best = shelf.order[shelf.best(ready.of_group, 12, hidden)]
    assert not set(best) & set(hidden)
    scores[hidden] = -np.inf
    np.testing.assert_allclose(scores[best], np.sort(scores)[::-1][:12], atol=1e-5)
    random = np.random.default_rng(0)
    items, values = shelf.draws(ready, k, repeats, 1.0, random, hidden)
    assert (np.diff(values, axis=1) <= 0).all()
    thinned = np.bincount(items.ravel(), minlength=len(scores)) / repeats
    generator = torch.Generator().manual_seed(1)
    full = np.zeros(len(scores))
    with torch.inference_mode():
        for _ in range(repeats):
            drawn = network.rank_state(state, network.items.noise(generator))[0].double().numpy()
            drawn[~np.isfinite(scores)] = -np.inf
            full[np.argsort(-drawn)[:k]] += 1 / repeats
    network.shelf = None
    often = np.flatnonzero(full > 0.01)
    error = np.sqrt((thinned[often] * (1 - thinned[often]) + full[often] * (1 - full[often])) / repeats)
    z = (thinned[often] - full[often]) / np.maximum(error, 1e-9)
    assert len(often) > 15
    assert np.abs(z).mean() < 1.2
    assert np.abs(z).max() < 4.5


def test_the_tail_of_chi_squared_is_scipys() -> None:
    from scipy.special import chdtrc

    from recsys.retrieval.passes import tail

    for dims in (1, 2, 8, 9, 33):
        for square in (0.0, 0.3, 4.0, 30.0, 200.0):
            assert tail(square, dims) == pytest.approx(chdtrc(dims, square), rel=1e-9, abs=1e-300)
