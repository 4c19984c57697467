"""Full ranking of next items beside all baselines, one code path for commands and tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import DataError
from core.metrics.bootstrap import mean_interval
from core.metrics.ranking import rank_of
from recsys.sequences.baselines import Scorer, baselines
from recsys.sequences.data import Questions, Sequences, divided, left_padded, withheld
from recsys.sequences.load import load_next
from recsys.sequences.model import NextItem

PIECE = 256
"""Questions at a time; no figure depends on it."""


def evaluate_next(
    data: Sequences,
    weights: str | Path | None = None,
    truth: Sequences | None = None,
    *,
    split: str = "auto",
    support: int = 1,
    negatives: Sequences | None = None,
    beside: bool = True,
    device: torch.device | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Rank what follows among all items, for a model and the baselines.

    Args:
        support: see `recsys.sequences.data.divided`.
        truth: withheld items, a user a row; all of `data` is then history, and the split is left out.
        negatives: rank among these items of each user (and the target) alone. Sampled ranking flatters; the
            report says so.
        beside: put the baselines beside the model.
        device: where the model ranks; the ranks do not depend on it but for rounding.
        seed: of the intervals.

    Raises:
        DataError: a user of the truth or of the negatives is not in the data, or another catalogue's weights.
    """
    learned, asked = (data, withheld(data, truth)) if truth is not None else divided(data, split, support)
    only = None if negatives is None else candidates(asked, negatives)
    ranks = {}
    if weights is not None:
        model, card = load_next(weights)
        if tuple(card.extra["names"]) != data.names:
            raise DataError(f"{data.source}: these weights know another catalogue.")
        ranks["model"] = ranked(model if device is None else model.to(device), asked, only)
    if beside:
        ranks |= {name: ranks_by(score, asked, only) for name, score in baselines(learned).items()}
    owners = asked.rows
    figures = {name: row_of(values, owners, seed) for name, values in ranks.items()}
    what = "all items" if only is None else f"SAMPLED: the target and {negatives.source}"  # pyright: ignore
    gone = "what the user has had removed" if asked.seen == "drop" else "what was seen kept"
    return {
        "n": len(asked),
        "model": figures.pop("model", {}),
        "baselines": figures,
        "items": [
            {
                "user": asked.data.users[int(asked.rows[row])],
                "at": int(asked.stops[row]),
                **{name: none_if_inf(ranks[name][row]) for name in ranks},
            }
            for row in range(len(asked))
        ],
        "protocol": {
            "ranking": f"{what}, {gone}, ties in the middle",
            "seen": asked.seen,
            "target": asked.target,
            "learned": len(learned),
        },
    }


def ranked(model: NextItem, asked: Questions, only: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """Mid-ranks (Q,) of the targets among all items, for a model, on its device."""
    length, device = model.config.length, model.table.device

    def tensor(parts: Sequence[np.ndarray], width: int) -> torch.Tensor:
        return torch.from_numpy(left_padded(parts, max(width, 1))).to(device)

    found = []
    for start in range(0, len(asked), PIECE):
        part = slice(start, start + PIECE)
        own, clocks = asked.histories(part), asked.clocks(part)
        time = following = None
        if model.timed and clocks is not None:
            time = tensor([clock[:-1] for clock in clocks], length)
            following = tensor([clock[1:] for clock in clocks], length)
        target = torch.from_numpy(asked.targets[part]).to(device)[:, None]
        with torch.inference_mode():
            scores = model.scores(model(tensor(own, length), time, following)[:, -1])
            mine = scores.gather(1, target)
            if only is not None:
                listed = tensor(only[part], max(map(len, only[part])))
                scores = torch.full_like(scores, -torch.inf).scatter(1, listed, scores.gather(1, listed))
            scores[:, 0] = -torch.inf
            if asked.seen == "drop":
                scores.scatter_(1, tensor(own, max(map(len, own))), -torch.inf)
            scores.scatter_(1, target, mine)
            above, level = (scores > mine).sum(1), (scores == mine).sum(1) - 1
            found.append((1 + above + 0.5 * level).double().cpu().numpy())
    ranks = np.concatenate(found) if found else np.zeros(0)
    ranks[asked.targets == 0] = np.inf
    return ranks


def ranks_by(score: Scorer, asked: Questions, only: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """Mid-ranks (Q,); an answer that nobody has seen is infinitely far away."""
    ranks = []
    for start in range(0, len(asked), PIECE):
        part = slice(start, start + PIECE)
        own = asked.histories(part)
        scores = score(own, asked.clocks(part))
        target = asked.targets[part]
        seen = own if asked.seen == "drop" else [part[:0] for part in own]
        ranks.append(ranks_of(scores, seen, target, None if only is None else only[part]))
    found = np.concatenate(ranks) if ranks else np.zeros(0)
    found[asked.targets == 0] = np.inf
    return found


def ranks_of(
    scores: np.ndarray,
    seen: Sequence[np.ndarray],
    target: np.ndarray,
    only: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Mid-ranks of targets; padding and what was seen stay out, the target itself never."""
    scores = scores.copy()
    own = scores[np.arange(len(target)), target]
    scores[:, 0] = -np.inf
    for row, part in zip(scores, seen, strict=True):
        row[part] = -np.inf
    if only is not None:
        kept = np.full(scores.shape, -np.inf)
        for row, part in enumerate(only):
            kept[row, part] = scores[row, part]
        scores = kept
    scores[np.arange(len(target)), target] = own
    return rank_of(scores, target)


def candidates(asked: Questions, negatives: Sequences) -> list[np.ndarray]:
    """Items of a file of negatives for each question.

    Raises:
        DataError: a user has none.
    """
    number = {name: index for index, name in enumerate(asked.data.names, 1)}
    lists = {
        user: np.array(
            [number[negatives.names[item - 1]] for item in part if negatives.names[item - 1] in number]
        )
        for user, part in zip(negatives.users, negatives.items, strict=True)
    }
    found = []
    for row in asked.rows:
        user = asked.data.users[int(row)]
        if user not in lists:
            raise DataError(f"{negatives.source}: no negatives for user {user}.")
        found.append(lists[user].astype(np.int64))
    return found


def row_of(ranks: np.ndarray, owners: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """HR@10, NDCG@10, MRR@20 and HR@20 with intervals over users."""
    gain = np.where(np.isfinite(ranks), 1 / np.log2(ranks + 1), 0.0)
    users = owners.tolist()
    return {
        **mean_interval(ranks <= 10, users, seed=seed).as_dict("HR@10"),
        **mean_interval((ranks <= 10) * gain, users, seed=seed).as_dict("NDCG@10"),
        **mean_interval(ranks <= 20, users, seed=seed).as_dict("HR@20"),
        **mean_interval((ranks <= 20) / ranks, users, seed=seed).as_dict("MRR@20"),
    }


def none_if_inf(value: float) -> float | None:
    """A rank, null where the target is unknown."""
    return float(value) if np.isfinite(value) else None


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    rows = [("model", report["model"]), *report["baselines"].items()]
    out = [f"{report['n']} questions ({report['protocol']['target']}); {report['protocol']['ranking']}."]
    out.append(f"{'':<12}  HR@10   NDCG@10  HR@20   MRR@20")
    for name, row in rows:
        if row:
            cells = (row["HR@10"], row["NDCG@10"], row["HR@20"], row["MRR@20"])
            out.append(f"{name:<12}  " + "  ".join(f"{cell:.4f}" for cell in cells))
    return out
