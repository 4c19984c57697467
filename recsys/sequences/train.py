"""Training of next-item models on what a split leaves to learn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import to_dict
from core.errors import ConfigError
from core.training import GroupOptions, LoopOptions, Outcome, ShuffledBatches, check_folder
from core.training import train as run_loop
from core.training.distributed import Place, join
from core.weights import Card
from recsys.config import NextRun
from recsys.models.next.losses import (
    bpr_max,
    full_softmax,
    gbce,
    gbce_beta,
    in_batch_softmax,
    sampled_softmax,
)
from recsys.sequences.batches import Batch, Drawer, LaneBatches, RowBatches
from recsys.sequences.data import Questions, Sequences, divided, window_of
from recsys.sequences.evaluate import ranked
from recsys.sequences.model import NextItem
from recsys.sequences.sharded import ranked_by_shards, sharded_model
from recsys.training import budgeted


def train_next(
    config: NextRun,
    data: Sequences,
    out: str | Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    device: torch.device | None = None,
) -> Outcome:
    """Train on what the split leaves to learn (`none`: everything, the file has withheld its tests already).

    Raises:
        ConfigError: too few sequences for a batch, or settings that contradict each other.
    """
    place = join(torch.device("cpu") if device is None else device, config.loop.patience_s)
    place.agree(lambda: check_folder(out, resume))
    learned, _ = divided(data, config.split, config.support)
    usable = [row for row, part in enumerate(learned.items) if len(part) > 1]
    config = fitted(config, learned, len(usable))
    items = len(data.names)
    learned, held = apart(learned, usable, config.validation, config.seed)
    timed = learned.times is not None
    if config.model.sharded:
        model = sharded_model(config.model, items, timed, place, config.seed)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = NextItem(config.model, items, timed)
    if device is not None:
        model.to(device)
    step, batches = stepper(config, learned, place)
    loop = by_rows(config, model) if config.model.sparse else config.loop
    if config.seconds is not None:
        if place.world > 1:
            raise ConfigError(
                "a budget of seconds is for one process; give several loop.epochs or max_steps."
            )
        loop = budgeted(loop, model, step, batches, len(learned), config.batch, config.seconds, out)

    def validate(model: nn.Module, place: Place) -> dict[str, float]:
        assert isinstance(model, NextItem)
        if config.model.sharded:
            ranks = ranked_by_shards(model, held, place)
        else:
            ranks = ranked(model, held)
        return {"NDCG@10": float(((ranks <= 10) / np.log2(ranks + 1)).mean())}

    return run_loop(
        model,
        step,
        ShuffledBatches(len(learned), config.batch, batches, config.seed),
        loop,
        out,
        validate=validate if len(held) else None,
        score="-NDCG@10" if len(held) else "loss",
        settings=to_dict(config),
        seed=config.seed,
        card=Card(
            task="recsys-next",
            unit=config.model.block,
            data=f"{len(learned)} sequences of {Path(data.source).name}, loss {config.loss}, "
            f"{'all items' if config.loss == 'softmax' else f'{config.negatives} negatives'}"
            + (f", logQ {config.logq:g}" if config.logq else ""),
            terms="those of the file",
            extra={"names": list(data.names), "timed": learned.times is not None},
        ),
        resume=resume,
        quiet=quiet,
    )


def by_rows(config: NextRun, model: NextItem) -> LoopOptions:
    """The loop with an optimiser of rows for the tables of items, and no average over all of them."""
    tables = [
        f"{name}.weight" for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.sparse
    ]  # fmt: skip
    own = config.loop.learner
    groups = tuple(GroupOptions(name, decay=0.0, optimizer="sparse_adam") for name in tables)
    return replace(config.loop, optimizer=replace(own, groups=(*own.groups, *groups)), ema=None)


def fitted(config: NextRun, learned: Sequences, usable: int) -> NextRun:
    """The settings with a window that fits the file."""
    if usable < config.batch:
        raise ConfigError(f"{usable} users are left for training, a batch wants {config.batch}.")
    if config.model.length == 0:
        config = replace(config, model=replace(config.model, length=window_of(learned)))
    return config


def apart(learned: Sequences, usable: list[int], count: int, seed: int) -> tuple[Sequences, Questions]:
    """Sequences to learn from, and the last items of a few of them, which choose the best weights."""
    random = np.random.default_rng(seed)
    long = [row for row in usable if len(learned.items[row]) > 2]
    count = min(count, len(long) // 4)
    chosen = set(random.choice(len(long), count, replace=False).tolist()) if count else set()
    held = sorted(long[index] for index in chosen)
    cut = set(held)
    parts, clocks = [], []
    for row in usable:
        stop = len(learned.items[row]) - (row in cut)
        parts.append(learned.items[row][:stop])
        if learned.times is not None:
            clocks.append(learned.times[row][:stop])
    rows = np.array(held, np.int64)
    stops = np.array([len(learned.items[row]) - 1 for row in held], np.int64)
    targets = np.array([learned.items[row][-1] for row in held], np.int64)
    times = None if learned.times is None else tuple(clocks)
    users = tuple(learned.users[row] for row in usable)
    kept = Sequences(tuple(parts), users, learned.names, learned.source, times, learned.groups)
    return kept, Questions(learned, rows, stops, targets, "last known items")


def stepper(config: NextRun, learned: Sequences, place: Place) -> tuple[Any, Any]:
    """The step of a loss, and what makes its batches."""
    draw = Drawer(learned, config.negatives, config.alpha)
    if config.lanes:
        return lane_step(config, draw), LaneBatches(learned, config.model.length, config.lanes, draw)
    beta = gbce_beta(config.negatives, len(learned.names), config.t if config.loss == "gbce" else 0.0)

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor] | None:
        assert isinstance(model, NextItem)
        features = model(batch.seen, batch.time, batch.following)
        seen, target = batch.seen, batch.target
        if not model.causal:  # a circular filter sees the future: the last position alone may learn
            features, target, seen = features[:, -1:], target[:, -1:], seen[:, -1:]
        used = (target > 0) & (seen > 0)
        if config.loss == "softmax":
            if not used.any():
                return None
            target = target[used]
            logits = model.scores(features[used])[:, 1:]
            return {"loss": full_softmax(logits, target - 1, torch.ones_like(target)), "count": used.sum()}
        if config.model.sharded:
            place.same([batch.negatives])
        elif not used.any():
            return None
        # looked up before the positions are picked: all processes ask a table that is dealt out alike
        own = model.score_of(features, target)[used][:, None]
        rows, more = model.output(batch.negatives)
        others, target = features[used] @ rows.T + more, target[used]
        if config.logq:
            drawn = draw.log_drawn.to(own)
            own = own - config.logq * drawn[target][:, None]
            others = others - config.logq * drawn[batch.negatives]
        logits, ones = torch.cat([own, others], 1), torch.ones_like(target)
        loss = sampled_softmax(logits, ones) if config.loss == "sampled" else gbce(logits, ones, beta)
        return {"loss": loss, "count": used.sum()}

    return step, RowBatches(learned, config.model.length, draw, config.model.block == "fmlp")


def lane_step(config: NextRun, draw: Drawer) -> Any:
    """The step of session-parallel lanes: every step of all lanes has the others' targets as negatives."""

    def step(model: nn.Module, batch: Batch) -> Tensor | None:
        assert isinstance(model, NextItem)
        features = model(batch.seen, begins=batch.begins)
        total, count = features.new_zeros(()), 0
        extra = batch.negatives
        for t in range(batch.seen.shape[1]):
            live = batch.target[:, t] > 0  # lanes that have run out are dropped
            target = batch.target[live, t]
            if len(target) < 2 and not len(extra):
                continue
            columns = torch.cat([target, extra])
            scores = model.scores(features[live, t], columns)
            if config.loss == "bpr_max":
                loss = bpr_max(scores, config.bpreg)
            elif config.loss == "in_batch":
                taken = torch.cat([draw.log_clicked[target.cpu()], draw.log_drawn[extra.cpu()]]).to(scores)
                loss = in_batch_softmax(scores, config.logq * taken if config.logq else None)
            else:
                raise ConfigError(f"lanes know bpr_max and in_batch, not {config.loss}.")
            total, count = total + loss, count + len(target)
        return total / count if count else None

    return step
