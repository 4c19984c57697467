"""One token through the streaming path: the one-step graph of a unit in onnxruntime, beside its eager step.

Width 128, one row. Gated cells and diagonal units have 60 microseconds, matrix states and whole blocks 150;
eager `nn.GRUCell` alone takes 20 to 60, by machine. Building a graph takes seconds, so these cases come last.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from core import registry
from core.bench.runner import Case

WIDTH = 128
NO_GRAPH = {"lru", "s4", "s4d", "s5"}
"""Units of complex numbers, which ONNX does not have."""
BLOCKS = {"mamba", "qrnn", "fsmn"}
"""Whole blocks outside of `core.units.matrix`."""


def cases() -> list[Case]:
    """A case a unit; none where the extra `export` is missing."""
    if find_spec("onnxruntime") is None:
        return []
    return [
        Case(
            f"{name} stream",
            f"B1 H{WIDTH} float32",
            partial(beside_eager, name),
            "its eager step",
            limit_us=limit(name),
        )
        for name in registry.names()
        if name not in NO_GRAPH
    ]


def limit(name: str) -> float:
    """Microseconds that a token may cost."""
    return 150 if name in BLOCKS or ".matrix." in registry.find(name).target or name == "plstm" else 60


def beside_eager(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The streamer's step and the unit's own, without gradients."""
    from core.streaming import Streamer

    unit = registry.build(name, WIDTH).eval()
    streamer, x = Streamer(unit), torch.randn(1, WIDTH)
    state, token = unit.initial_state(x), x.numpy()

    @torch.no_grad()
    def eager() -> Any:
        return unit.step(x, state)

    return lambda: streamer.step(token), eager
