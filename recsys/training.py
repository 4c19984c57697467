"""What the trainings of all slate models share: who and what is kept aside, the loop, the card."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import to_dict
from core.errors import ConfigError
from core.files import write_text
from core.training import LoopOptions, Outcome, ShuffledBatches
from core.training import train as run_loop
from core.training.batches import to_device
from core.weights import Card, load_into
from recsys.features import Steps, steps_of
from recsys.loss import slate_loss
from recsys.slates import Slates

PLAN = "steps.txt"
"""Of a run folder with a budget."""
PROBES = {"cpu": (1, 4), "cuda": (5, 20)}
"""Steps that set a device up, and steps that are timed to know how many fit into a budget."""
LOOKS = 6
"""Validations of a run with a budget."""
OPTIMISER = 1.25
"""What a step costs, optimiser and batch of the loop included, for its forward and backward pass."""
SPLITS = ("auto", "users", "time", "last", "none")
LATE = 0.1
"""Share of the steps that a split by time keeps aside."""


@dataclass(frozen=True)
class Divided:
    """Users and steps to learn from, and those that choose the best weights."""

    slates: Slates
    learned: np.ndarray
    kept: np.ndarray
    early: np.ndarray | None = None
    """(U, T) steps that are learned from; None: all of a learned user's."""

    def steps(self, users: np.ndarray, late: bool = False) -> Steps:
        """Users as tensors, of which the early (or late) steps count."""
        steps = steps_of(self.slates, users)
        if self.early is None:
            return steps
        mask = torch.from_numpy(self.early[users])
        return replace(steps, counted=steps.counted & (~mask if late else mask))

    @property
    def everybody(self) -> np.ndarray:
        """All users whose clicks may be counted."""
        return np.union1d(self.learned, self.kept)

    @property
    def training(self) -> Steps:
        """What is learned from."""
        return self.steps(self.learned)

    @property
    def held(self) -> Steps:
        """What chooses the best weights."""
        return self.steps(self.kept, late=True)


def divided(
    slates: Slates, users: np.ndarray | None, validation: int, seed: int, split: str = "users", batch: int = 1
) -> Divided:
    """Keep some users aside, or the late steps of everybody.

    Args:
        split: users; time (steps behind the 90 % quantile of their times); last (each user's last step:
            others' later steps are then learned from); none; auto: time where the log has times, else users.

    Raises:
        ConfigError: an unknown split, one by time without times, or fewer users than a batch wants.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is one of {', '.join(SPLITS)}, got {split!r}.")
    if split == "auto":
        split = "users" if slates.time is None else "time"
    users = np.arange(len(slates)) if users is None else users
    order = np.random.default_rng(seed).permutation(users)
    count = 0 if split == "none" else validation
    kept, learned = np.sort(order[:count]), np.sort(order[count:])
    early = None
    if split == "time":
        if slates.time is None:
            raise ConfigError(f"{slates.source}: a split by time needs times; use --split users.")
        time, used = np.asarray(slates.time, np.float64), np.asarray(slates.lengths) > 0
        early = ~(used & (time > np.quantile(time[used], 1 - LATE)))
    elif split == "last":
        place = np.arange(slates.steps)
        ends = ((np.asarray(slates.lengths) > 0) * (place + 1)).max(1, initial=0)
        early = place != ends[:, None] - 1
    if early is not None:
        learned = np.sort(users)
    if len(learned) < batch:
        raise ConfigError(f"{len(learned)} users are left for training, a batch wants {batch}; lower batch?")
    return Divided(slates, learned, kept, early)


class Rising:
    """Batches, each with the weight (a number) of the divergence at its step, from 0 to 1 over `steps`."""

    def __init__(self, batches: ShuffledBatches, steps: float) -> None:
        self.batches, self.steps = batches, steps

    def count(self, world: int) -> int:
        return self.batches.count(world)

    def epoch(self, epoch: int, rank: int, world: int, start: int) -> Iterator[tuple[float, Any]]:
        first = epoch * self.count(world) + start
        for number, batch in enumerate(self.batches.epoch(epoch, rank, world, start), first):
            yield min(1.0, number / self.steps), batch


def fit(
    config: Any,
    model: nn.Module,
    step: Callable[..., Any],
    make: Callable[..., Any],
    parts: Divided,
    out: str | Path,
    card: Card,
    *,
    resume: bool,
    quiet: bool,
    held: Steps | None = None,
    device: torch.device | None = None,
    began: float | None = None,
) -> Outcome:
    """Run the loop; the likelihood of what is kept aside chooses the best weights.

    Args:
        step: (model, batch, weight of the divergence) -> what the loop wants of a step.
        began: when the session's clock began, where another stage came before.
    """
    judged: Steps = parts.held if held is None else held
    if device is not None:
        model.to(device)
        judged = to_device(judged, device)

    def validate(model: Any) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(slate_loss(model.judge(judged), judged))}

    users = len(parts.learned)
    batch, loop = min(config.batch, users), config.loop
    if config.seconds is not None:
        loop = budgeted(loop, model, step, make, users, batch, config.seconds, out)
    batches: Any = ShuffledBatches(users, batch, make, config.seed)
    if config.kl_rise:
        steps = min(loop.epochs * (batches.count(1) // loop.accumulate), loop.max_steps or sys.maxsize)
        batches = Rising(batches, config.kl_rise * steps * loop.accumulate)

    def weighted(model: nn.Module, batch: Any) -> Any:
        return step(model, batch[1], batch[0]) if config.kl_rise else step(model, batch)

    return run_loop(
        model,
        weighted,
        batches,
        loop,
        out,
        validate=validate if len(judged.slate) and bool(judged.counted.any()) else None,
        settings=to_dict(config),
        seed=config.seed,
        card=card,
        resume=resume,
        quiet=quiet,
        began=began,
    )


def budgeted(
    loop: LoopOptions,
    model: nn.Module,
    step: Any,
    make: Any,
    count: int,
    batch: int,
    seconds: float,
    out: str | Path,
) -> LoopOptions:
    """The loop with as many steps as fit into the CPU seconds, by a few that are timed and thrown away.

    How many is kept in the run folder: a run that goes on has the steps that it was begun with.
    """
    plan = Path(out) / PLAN
    if plan.is_file():
        return planned(loop, int(plan.read_text(encoding="utf-8")))
    generator = torch.Generator().manual_seed(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    device = next(model.parameters()).device
    warm, probes = PROBES[device.type]
    model.train()
    began = 0.0
    with torch.random.fork_rng(devices=[]):
        for number in range(warm + probes):
            if number == warm:
                finished(device)
                began = time.process_time()
            rows = torch.randint(count, (batch,), generator=generator)
            found = step(model, to_device(make(rows, generator), device))
            if found is not None:
                (found["loss"] if isinstance(found, dict) else found).backward()
            model.zero_grad(set_to_none=True)
    finished(device)
    each = OPTIMISER * (time.process_time() - began) / probes
    load_into(model, before)
    steps = max(LOOKS, int(seconds / max(each, 1e-4)))
    plan.parent.mkdir(parents=True, exist_ok=True)
    write_text(plan, f"{steps}\n")
    return planned(loop, steps)


def finished(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def planned(loop: LoopOptions, steps: int) -> LoopOptions:
    """The loop with so many steps and a few validations among them."""
    return replace(loop, epochs=10**6, max_steps=steps, validate_steps=max(1, steps // LOOKS))


def describe(slates: Slates, unit: str, kind: str) -> Card:
    """What the weights are, in words; external ids of the catalogue travel with them."""
    names = slates.catalogue.names
    return Card(
        task="recsys",
        unit=unit,
        data=f"{len(slates)} users of {Path(slates.source).name or 'the simulator'}",
        terms="generated: ours",
        extra={"kind": kind, "slots": slates.slots} | ({} if names is None else {"names": list(names)}),
    )


def shown_by_group(counts: Tensor, group: Tensor, groups: int) -> Tensor:
    """log of how often each group was counted, one more each."""
    return (torch.zeros(groups).index_add(0, group, counts) + 1).log()
