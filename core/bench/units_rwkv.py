"""What RWKV, mLSTM, Aaren, FSMN and pLSTM cost: a long sequence beside a loop of steps, and one step.

Training is forward and backward over T 2048 with 4 heads of 64, the fastest mode beside the sequential one;
a step is one token at width 128 without gradient.
"""

from collections.abc import Callable
from typing import Any

import torch

import core
from core.bench.runner import Case
from core.bench.steady import steady_step

UNITS = ("rwkv4", "rwkv6", "rwkv7", "mlstm", "aaren", "fsmn", "plstm")
TIME, WIDTH, STEP_WIDTH = 2048, 256, 128


def cases() -> list[Case]:
    """Two cases a unit."""
    found = []
    for name in UNITS:
        sizes = f"B1 T{TIME} H{WIDTH} float32"
        # a sequential run takes seconds, and the ratio is far from its bound: few repeats are enough
        found.append(Case(f"{name} f+b", sizes, training(name), "sequential mode", target=0.1, repeats=3))
        found.append(Case(f"{name} step", f"B1 H{STEP_WIDTH} float32", step(name), limit_us=150))
    return found


def training(name: str) -> Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]:
    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        torch.manual_seed(0)
        unit = core.build(name, WIDTH)
        x = torch.randn(1, TIME, WIDTH, requires_grad=True)

        def run(mode: str) -> None:
            unit(x, None, mode)[0].sum().backward()

        return lambda: run(unit.modes[-1]), lambda: run("sequential")

    return make


def step(name: str) -> Callable[[], tuple[Callable[[], Any], None]]:
    def make() -> tuple[Callable[[], Any], None]:
        torch.manual_seed(0)
        unit = core.build(name, STEP_WIDTH).requires_grad_(False)
        x = torch.randn(1, STEP_WIDTH)
        state = unit(x.unsqueeze(1))[1]
        return steady_step(unit, x, state), None

    return make
