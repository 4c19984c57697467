"""Which stages of a network are worth bfloat16 on this machine, by timing them once before the training.

Processors differ: with AVX-512 BF16 convolutions and LSTMs take half the time, without it bfloat16 is slower.
So with `loop.precision=bfloat16` each stage keeps what was faster; the settings, and with them the card, say
which stayed exact, and a run that goes on keeps it. Log-softmax and CTC are in float32 always.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from core.training.batches import to_device

STAGES = ("convolutions", "sequence")
TIMED, WARM = 5, 2
"""Steps of each trial that count, and before them."""


def stage(exact: Sequence[str], name: str, device: str) -> AbstractContextManager[Any]:
    """Inside, a stage that stays exact computes in float32 whatever the loop's precision."""
    return torch.autocast(device, enabled=False) if name in exact else nullcontext()


def timed_stages(
    model: nn.Module, step: Callable[..., Any], batches: Any, clock: Callable[[], float] = time.perf_counter
) -> tuple[str, ...]:
    """Stages of a network with `exact` (see `LineNetwork`) for which bfloat16 is no faster on its device.

    One after the other: each is timed in both precisions with the others as they were found to be best.
    """
    exact: tuple[str, ...] = ()
    for name in STAGES:
        fast, slow = (seconds(model, step, batches, tried, clock) for tried in (exact, (*exact, name)))
        if slow <= fast:
            exact = (*exact, name)
    return exact


def seconds(
    model: nn.Module, step: Callable[..., Any], batches: Any, exact: Sequence[str], clock: Callable[[], float]
) -> float:
    """The least time of a step of a copy of the network, gradients included."""
    network: Any = deepcopy(model).train()
    network.exact = tuple(exact)
    device = next(network.parameters()).device
    took = []
    for number, batch in zip(range(WARM + TIMED), batches.epoch(0, 0, 1, 0), strict=False):
        begun = clock()
        with torch.autocast(device.type, torch.bfloat16):
            loss = step(network, to_device(batch, device))["loss"]
        loss.backward()
        loss.item()  # waits for a GPU
        network.zero_grad()
        if number >= WARM:
            took.append(clock() - begun)
    return min(took, default=0.0)
