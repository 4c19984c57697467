"""Gated units whose channels see only themselves: the whole sequence can be solved by Newton's method."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.newton import newton
from core.units.gated.gated_unit import GatedUnit


class NewtonUnit(GatedUnit):
    """A `GatedUnit` whose step is elementwise, and whose output is its first state.

    Without a mode the loop runs on a CPU, where one compiled pass is several times faster than the
    iterations, and Newton's method on a GPU, where a loop over time leaves the machine idle.
    """

    modes: ClassVar[tuple[str, ...]] = ("step", "sequential", "newton")

    def projected(self, x: Tensor) -> Tensor:
        """Gates (B, T, G) of x (B, T, I) before the recurrence."""
        return F.linear(x, *self.input_weights())

    def forward(self, x: Tensor, state: Any = None, mode: str | None = None) -> tuple[Tensor, Any]:
        if mode is None:
            mode = "newton" if x.is_cuda and not torch.compiler.is_compiling() else "sequential"
        return super().forward(x, state, mode)

    def run(self, x: Tensor, state: Any, mode: str) -> tuple[Tensor, Any]:
        if mode != "newton":
            return super().run(x, state, mode)
        single = isinstance(state, Tensor)
        h = newton(self.cell.step, self.projected(x), (state,) if single else state, self.weights())
        final = tuple(part[:, -1].to(x.dtype) for part in h)
        return h[0].to(x.dtype), final[0] if single else final
