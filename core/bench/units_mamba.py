"""Selective state spaces and RG-LRU: what the fused scan saves over stepping, and what one step costs.

Sequences are trained forward and backward: the kernel against its plain loop, the units against their own
sequential mode; Mamba-2 has 4 heads of 64 here. Steps: one row at width 128, without gradients.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from core.bench.runner import Case
from core.bench.steady import steady_step

BATCH, TIME, WIDTH = 1, 2048, 128
CHANNELS, STATES = 256, 16
SIZES = f"B{BATCH} T{TIME} H{WIDTH} float32"
UNITS = ("mamba", "mamba2", "rg_lru")
STEPS = {"mamba": 150, "mamba2": 150, "rg_lru": 60, "recurrent block": 150}
"""Unit or block -> microseconds to stay under."""

Call = Callable[[], Any]


def cases() -> list[Case]:
    """The kernel against its definition, units against their sequential mode, single steps."""
    kernel = f"B{BATCH} T{TIME} D{CHANNELS} N{STATES} float32"
    chosen = [Case("selective scan", kernel, kernel_pair, "plain loop", 0.1, repeats=3)]
    for name in UNITS:
        chosen.append(Case(name, SIZES, partial(unit_pair, name), "sequential mode", 0.1, repeats=3))
    for name, limit in STEPS.items():
        chosen.append(Case(f"{name} step", f"B1 H{WIDTH} float32", partial(step, name), limit_us=limit))
    return chosen


def build(name: str) -> Any:
    import core
    from core.blocks.griffin import RecurrentBlock

    return RecurrentBlock(WIDTH, WIDTH) if name == "recurrent block" else core.build(name, WIDTH)


def kernel_pair() -> tuple[Call, Call]:
    from core.kernels.selective_scan import selective_scan
    from core.kernels.selective_scan.definition import selective_scan_loop

    generator = torch.Generator().manual_seed(0)
    u, delta = torch.randn(2, BATCH, TIME, CHANNELS, generator=generator)
    B, C = torch.randn(2, BATCH, TIME, 1, STATES, generator=generator)
    A = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
    leaves = [part.requires_grad_() for part in (u, delta - 3, A, B, C)]
    state = torch.zeros(BATCH, CHANNELS, STATES)

    def train(scan: Callable[..., Any]) -> Any:
        y, _ = scan(*leaves)
        return torch.autograd.grad(y, leaves, y.detach())

    return partial(train, selective_scan), partial(train, partial(selective_scan_loop, state=state))


def unit_pair(name: str) -> tuple[Call, Call]:
    unit = build(name)
    x = torch.randn(BATCH, TIME, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    leaves = [x, *unit.parameters()]

    def train(mode: str) -> Any:
        y, _ = unit(x, None, mode)
        return torch.autograd.grad(y, leaves, y.detach())

    return partial(train, unit.modes[-1]), partial(train, "sequential")


def step(name: str) -> tuple[Call, None]:
    unit = build(name)
    x = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = unit(x.unsqueeze(1))
    return steady_step(unit, x, state), None
