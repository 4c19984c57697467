"""Units whose recurrence has the same coefficients at every token: they follow from the parameters alone."""

from typing import Any

import torch
from torch import Tensor

from core.units.contract import Unit


class TimeInvariant(Unit):
    """A unit with `coefficients()`; in evaluation a stream computes them once, not at every step.

    They are computed anew after `train()`, `eval()`, loading, moving, or any change that torch counts; of
    what happens to `parameter.data` behind its back, only `eval()` makes a unit take notice.
    """

    groups = 1  # what a call computes from the parameters costs as much as its tokens
    remembered: tuple[Any, tuple[Tensor, ...]] | None = None

    def coefficients(self) -> tuple[Tensor, ...]:
        """Coefficients of one step, in the precision of the state."""
        raise NotImplementedError

    def step_coefficients(self) -> tuple[Tensor, ...]:
        """`coefficients()`, remembered between steps where nothing is being trained."""
        own = [part for part in self._parameters.values() if part is not None]
        if (
            self.training
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or any(part.is_inference() for part in own)
        ):
            return self.coefficients()
        seen = [(part, part.data_ptr(), part._version) for part in own]
        if self.remembered is None or any(
            a is not b or at != was or version != before
            for (a, at, version), (b, was, before) in zip(seen, self.remembered[0], strict=True)
        ):
            self.remembered = seen, self.coefficients()
        return self.remembered[1]

    def train(self, mode: bool = True) -> "TimeInvariant":
        self.remembered = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "remembered": None}
