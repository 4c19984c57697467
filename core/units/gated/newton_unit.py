"""Gated units whose channels see only themselves: the whole sequence can be solved by Newton's method."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.newton import States, Step, Weights, newton
from core.parts.lengths import beyond
from core.units.gated.gated_unit import GatedUnit


class NewtonUnit(GatedUnit):
    """A `GatedUnit` whose step is elementwise, and whose output is its first state.

    Without a mode the loop runs on a CPU, where one compiled pass is several times faster than the
    iterations, and Newton's method on a GPU, where a loop over time leaves the machine idle.
    """

    modes = ("step", "sequential", "newton")

    def start_recurrent(self, kind: str) -> None:
        raise ConfigError(
            f"the recurrence of {type(self).__name__} is diagonal, so it takes no recurrent start"
        )

    def projected(self, x: Tensor) -> Tensor:
        """Gates (B, T, G) of x (B, T, I) before the recurrence."""
        return F.linear(x, *self.input_weights())

    freezes = True

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        mode: str | None = None,
        *,
        lengths: Tensor | None = None,
        dt: Any = None,
    ) -> tuple[Tensor, Any]:
        if mode is None:
            parallel = x.is_cuda and not self.noisy and not torch.compiler.is_compiling()
            mode = "newton" if parallel else "sequential"
        return super().forward(x, state, mode, lengths=lengths, dt=dt)

    def run(self, x: Tensor, state: Any, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        if mode != "newton":
            return super().run(x, state, mode, lengths)
        if self.noisy:
            raise ValueError(f"{type(self).__name__} with zoneout or dropout does not compute in mode newton")
        single = isinstance(state, Tensor)
        step, gates = self.cell.step, self.projected(x)
        if lengths is not None:
            counts = (~beyond(lengths, x.shape[1])).to(gates.dtype).unsqueeze(-1)
            step, gates = standing_still(step), torch.cat([gates, counts], -1)
        h = newton(step, gates, (state,) if single else state, self.weights())
        final = tuple(part[:, -1].to(x.dtype, copy=True) for part in h)
        return h[0].to(x.dtype), final[0] if single else final


def standing_still(step: Step) -> Step:
    """The step on gates with one more column: where that is zero, the states stay what they were."""

    def stepped(gates: Tensor, state: States, weights: Weights) -> tuple[Tensor, States]:
        _, after = step(gates[..., :-1], state, weights)
        counts = gates[..., -1:] > 0
        after = tuple(torch.where(counts, new, old) for new, old in zip(after, state, strict=True))
        return after[0], after

    return stepped
