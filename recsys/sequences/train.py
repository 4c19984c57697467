"""Training and scoring of next-item models; the last item of a user is the test, the one before validates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core.config import replace as changed
from core.config import to_dict
from core.errors import ConfigError, DataError, WeightsError
from core.metrics.bootstrap import mean_interval
from core.metrics.ranking import rank_of
from core.training import Outcome, ShuffledBatches, check_folder
from core.training import train as run_loop
from core.weights import Card, find, load, network_for
from recsys.config import NextConfig, NextRun
from recsys.models.next.losses import full_softmax, gbce, gbce_beta, sampled_softmax
from recsys.sequences.data import Sequences, left_padded
from recsys.sequences.model import NextItem

PIECE = 256
"""Users ranked at a time; no figure depends on it."""


class SequenceBatches:
    """Rows of a batch -> (items, next items, negatives)."""

    def __init__(self, parts: list[np.ndarray], length: int, items: int, negatives: int) -> None:
        self.rows = torch.from_numpy(left_padded(parts, length + 1))
        self.items, self.negatives = items, negatives

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        whole = self.rows[rows]
        negatives = torch.randint(1, self.items + 1, (self.negatives,), generator=generator)
        return whole[:, :-1], whole[:, 1:], negatives


def train_next(
    config: NextRun,
    data: Sequences,
    out: str | Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    hold: int = 1,
) -> Outcome:
    """Train on all but the last `hold` items of every user (0: the file has withheld its tests already)."""
    check_folder(out, resume)
    items = len(data.names)
    known = [part[: len(part) - hold] for part in data.items]
    parts = [part[:-1] for part in known if len(part) > 2]
    if len(parts) < config.batch:
        raise ConfigError(f"{len(parts)} users are left for training, a batch wants {config.batch}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = NextItem(config.model, items)
    order = np.random.default_rng(config.seed).permutation(len(known))
    held = [known[row] for row in order if len(known[row]) > 2][: config.validation]
    beta = gbce_beta(config.negatives, items, config.t)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        assert isinstance(model, NextItem)
        seen, target, negatives = batch
        features = model(seen)
        if not model.causal:  # a circular filter sees the future: the last position alone may learn
            features, target, seen = features[:, -1:], target[:, -1:], seen[:, -1:]
        used = (target > 0) & (seen > 0)
        features, target = features[used], target[used]
        if config.loss == "softmax":
            scores = model.scores(features)[:, 1:]
            return full_softmax(scores, target - 1, torch.ones_like(target))
        positive = (features * model.table[target]).sum(-1, keepdim=True)
        if config.model.block == "gru4rec":
            positive = positive + model.block.By.weight[target]
        logits = torch.cat([positive, model.scores(features, negatives)], 1)
        ones = torch.ones_like(target)
        return gbce(logits, ones, beta) if config.loss == "gbce" else sampled_softmax(logits, ones)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, NextItem)
        ranks = ranked(model, [part[:-1] for part in held], np.array([part[-1] for part in held]))
        return {"NDCG@10": float(((ranks <= 10) / np.log2(ranks + 1)).mean())}

    return run_loop(
        model,
        step,
        ShuffledBatches(
            len(parts),
            config.batch,
            SequenceBatches(parts, config.model.length, items, config.negatives),
            config.seed,
        ),
        config.loop,
        out,
        validate=validate,
        score="-NDCG@10",
        settings=to_dict(config),
        seed=config.seed,
        card=Card(
            task="recsys-next",
            unit=config.model.block,
            data=f"{len(parts)} sequences of {Path(data.source).name}, loss {config.loss}, "
            f"{config.negatives} negatives",
            terms="those of the file",
            extra={"names": list(data.names)},
        ),
        resume=resume,
        quiet=quiet,
    )


def load_next(name: str | Path) -> tuple[NextItem, Card]:
    """A next-item model by file or run folder.

    Raises:
        WeightsError: weights of another task, or damaged.
    """
    tensors, card = load(find(name))
    if card.task != "recsys-next":
        raise WeightsError(f"{name}: weights for {card.task!r}, not for the next item.")
    names = card.extra.get("names")
    if not isinstance(names, list):
        raise WeightsError(f"{name}: its card names no items.")
    model = network_for(
        name, tensors, lambda: NextItem(changed(NextConfig(), card.settings["model"]), len(names))
    )
    return model.eval(), card


def ranked(model: NextItem, parts: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
    """Mid-ranks (B,) of the targets among all items the user has not had, for histories."""
    ranks = []
    with torch.inference_mode():
        for start in range(0, len(parts), PIECE):
            own = list(parts[start : start + PIECE])
            rows = torch.from_numpy(left_padded(own, model.config.length))
            scores = model.scores(model(rows)[:, -1]).double().numpy()
            ranks.append(ranks_of(scores, own, target[start : start + PIECE]))
    return np.concatenate(ranks) if ranks else np.zeros(0)


def ranks_of(scores: np.ndarray, seen: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
    """Mid-ranks of targets; padding and what was seen stay out, the target itself never."""
    scores = scores.copy()
    own = scores[np.arange(len(target)), target]
    scores[:, 0] = -np.inf
    for row, part in zip(scores, seen, strict=True):
        row[part] = -np.inf
    scores[np.arange(len(target)), target] = own
    return rank_of(scores, target)


def evaluate_next(
    data: Sequences, weights: str | Path | None = None, truth: Sequences | None = None
) -> dict[str, Any]:
    """Full ranking of every user's last item (or of a file of withheld ones) beside the baselines.

    Raises:
        DataError: a user of the truth is not in the data.
    """
    items = len(data.names)
    if truth is None:
        rows = [(user, part[:-1], int(part[-1])) for user, part in zip(data.users, data.items, strict=True)]
        learned = [part[:-1] for part in data.items]
    else:
        by_user = dict(zip(data.users, data.items, strict=True))
        number = {name: index for index, name in enumerate(data.names, 1)}
        rows, learned = [], list(data.items)
        for user, part in zip(truth.users, truth.items, strict=True):
            if user not in by_user:
                raise DataError(f"{truth.source}: user {user} is not in {data.source}.")
            rows.append((user, by_user[user], number.get(truth.names[int(part[0]) - 1], 0)))
    rows = [row for row in rows if len(row[1])]
    seen, target = [row[1] for row in rows], np.array([row[2] for row in rows])
    known = target > 0
    ranks: dict[str, np.ndarray] = {}
    if weights is not None:
        model, card = load_next(weights)
        if tuple(card.extra["names"]) != data.names:
            raise DataError(f"{data.source}: these weights know another catalogue.")
        ranks["model"] = ranked(model, seen, target)
    count = np.bincount(np.concatenate(learned), minlength=items + 1).astype(float)
    move = moves(learned, items)
    for name in ("popularity", "transitions", "random"):
        found = []
        for start in range(0, len(rows), PIECE):
            own = seen[start : start + PIECE]
            if name == "popularity":
                scores = np.repeat(count[None], len(own), 0)
            elif name == "transitions":
                scores = np.asarray(move[[int(part[-1]) for part in own]].todense()) + 1e-6 * count
            else:
                scores = np.zeros((len(own), items + 1))
            found.append(ranks_of(scores, own, target[start : start + PIECE]))
        ranks[name] = np.concatenate(found)
    for values in ranks.values():
        values[~known] = np.inf  # a target that nobody has seen counts as a miss
    figures = {name: row_of(values) for name, values in ranks.items()}
    return {
        "n": len(rows),
        "model": figures.pop("model", {}),
        "baselines": figures,
        "items": [
            {"user": user, **{name: none_if_inf(ranks[name][row]) for name in ranks}}
            for row, (user, _, _) in enumerate(rows)
        ],
        "protocol": {
            "ranking": "all items, what the user has had removed, ties in the middle",
            "seen": "drop",
            "target": "last item of every user" if truth is None else truth.source,
        },
    }


def moves(parts: Sequence[np.ndarray], items: int) -> Any:
    """How often item j follows item i, sparse (n + 1, n + 1)."""
    from scipy.sparse import coo_matrix

    before = np.concatenate([part[:-1] for part in parts])
    after = np.concatenate([part[1:] for part in parts])
    size = items + 1
    return coo_matrix((np.ones(len(before)), (before, after)), (size, size)).tocsr()


def row_of(ranks: np.ndarray) -> dict[str, Any]:
    """HR@10, NDCG@10, MRR@20 and HR@20 with intervals over users."""
    gain = np.where(np.isfinite(ranks), 1 / np.log2(ranks + 1), 0.0)
    return {
        **mean_interval(ranks <= 10).as_dict("HR@10"),
        **mean_interval((ranks <= 10) * gain).as_dict("NDCG@10"),
        **mean_interval(ranks <= 20).as_dict("HR@20"),
        **mean_interval((ranks <= 20) / ranks).as_dict("MRR@20"),
    }


def none_if_inf(value: float) -> float | None:
    """A rank, null where the target is unknown."""
    return float(value) if np.isfinite(value) else None


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    rows = [("model", report["model"]), *report["baselines"].items()]
    out = [f"{report['n']} users; {report['protocol']['ranking']}."]
    out.append(f"{'':<12}  HR@10   NDCG@10  HR@20   MRR@20")
    for name, row in rows:
        if row:
            cells = (row["HR@10"], row["NDCG@10"], row["HR@20"], row["MRR@20"])
            out.append(f"{name:<12}  " + "  ".join(f"{cell:.4f}" for cell in cells))
    return out
