"""One token of each unit, through its eager step and through a stream, beside `nn.GRUCell`.

Width 128, one row, without gradients. Eager: at most 1.2 GRU cells for gated and diagonal units, 3 for matrix
states and whole blocks. A stream: half of one for gated, diagonal and plain matrix states, one for the rest.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from core import registry
from core.bench.runner import Case
from core.bench.steady import steady_step

WIDTH = 128
BLOCKS = {"mamba", "qrnn", "fsmn", "plstm"}
"""Whole blocks outside of `core.units.matrix`."""
PLAIN = {"linear_attention", "retention", "gla", "hgrn2", "mlstm"}
"""Matrix states without more around them."""


def cases() -> list[Case]:
    """Two cases a unit."""
    return [
        Case(f"{name} {way}", f"B1 H{WIDTH} float32", partial(make, name), "nn.GRUCell", target=target(name))
        for name in registry.names()
        for way, make, target in (
            ("step beside a cell", beside_cell, eager_target),
            ("stream", stream_beside_cell, target_of_stream),
        )
    ]


def whole_block(name: str) -> bool:
    return name in BLOCKS or ".matrix." in registry.find(name).target


def eager_target(name: str) -> float:
    """GRU cells that an eager step may cost."""
    return 3.0 if whole_block(name) else 1.2


def target_of_stream(name: str) -> float:
    """GRU cells that a step of a stream may cost."""
    return 1.0 if whole_block(name) and name not in PLAIN else 0.5


def cell() -> Callable[[], Any]:
    """A step of `nn.GRUCell` without gradients."""
    peer, x, h = torch.nn.GRUCell(WIDTH, WIDTH).eval(), torch.randn(1, WIDTH), torch.zeros(1, WIDTH)

    @torch.no_grad()
    def step() -> Any:
        return peer(x, h)

    return step


def beside_cell(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The unit's own step."""
    return steady_step(registry.build(name, WIDTH).eval(), torch.randn(1, WIDTH)), cell()


def stream_beside_cell(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step of a stream."""
    from core.streaming import Streamer

    streamer, token = Streamer(registry.build(name, WIDTH)), torch.randn(1, WIDTH).numpy()
    return lambda: streamer.step(token), cell()
