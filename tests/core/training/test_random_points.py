"""Runs that end at random steps, writes and times, again and again, leave the bits of one left alone."""

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.training import LoopOptions, Outcome, RecoverOptions, ScheduleOptions
from tests.core.training.runs import final, run, same, step
from tests.core.training.test_recover import spoiled
from tests.core.training.test_stages import OPTIONS as STAGED
from tests.core.training.test_stages import calibrated, everything, stages

RICH = LoopOptions(
    epochs=2, lr=0.1, ema=0.9, checkpoint_steps=4, validate_steps=5, recover=RecoverOptions(9),
    schedule=ScheduleOptions("plateau", patience=1, warmup=0.1),
)  # fmt: skip


class Kill(BaseException):
    """Nothing catches it; what was being written is lost."""


def rich(out: Path, step: Any, minutes: float | None, resume: bool) -> Outcome:
    """Plateaus, explosions, validations and checkpoints inside epochs, a calibration at the end."""
    options = dataclasses.replace(RICH, max_minutes=minutes)
    return run(out, options=options, step=step, batches=spoiled(), resume=resume, finish=calibrated)


def staged(out: Path, step: Any, minutes: float | None, resume: bool) -> Outcome:
    options = dataclasses.replace(STAGED, max_minutes=minutes)
    return stages(out, options=options, step=step, resume=resume)


def without_origin(left: dict[str, Any]) -> dict[str, Any]:
    """What is left of a run, whatever time its sessions had."""
    if "state" in left:
        left["state"].pop("origin")
        return left
    return {
        "tensors": left["tensors"],
        "factor": left["extra"]["factor"],
        **{name: without_origin(left[name]) for name in ("1-body", "2-head")},
    }


def session(
    begin: Callable[..., Outcome], out: Path, resume: bool, at_step: int, at_write: int, minutes: float | None
) -> Outcome | None:
    """One session; None where it was killed."""
    taken = written = 0
    replace = os.replace

    def stopping_step(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        if taken == at_step:
            raise Kill
        taken += 1
        return step(model, batch)

    def stopping_replace(source: Any, target: Any, **words: Any) -> None:
        nonlocal written
        if written == at_write:
            raise Kill
        written += 1
        replace(source, target, **words)

    os.replace = stopping_replace
    try:
        return begin(out, stopping_step, minutes, resume)
    except Kill:
        return None
    finally:
        os.replace = replace


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("begin", "left"), [(rich, final), (staged, everything)])
@pytest.mark.parametrize("seed", range(6))
def test_random_ends_change_nothing(
    tmp_path: Path, begin: Callable[..., Outcome], left: Callable[[Path], dict[str, Any]], seed: int
) -> None:
    torch.set_num_threads(1)
    session(begin, tmp_path / "alone", False, -1, -1, None)
    alone = without_origin(left(tmp_path / "alone"))
    chance = random.Random(seed)
    for trial in range(2):
        out, outcome, sessions = tmp_path / str(trial), None, []
        while outcome is None or outcome.stopped == "time":
            kind = chance.choice(["step", "write", "clock"]) if len(sessions) < 6 else "none"
            words: tuple[int, int, float | None] = (
                chance.randrange(40) if kind == "step" else -1,
                chance.randrange(20) if kind == "write" else -1,
                chance.random() * 0.004 if kind == "clock" else None,
            )
            sessions.append(words)
            outcome = session(begin, out, out.is_dir(), *words)
        assert same(without_origin(left(out)), alone), sessions
