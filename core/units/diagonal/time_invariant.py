"""Units whose recurrence has the same coefficients at every token: they follow from the parameters alone."""

from typing import Any

import torch
from torch import Tensor

from core.kernels.choice import recording
from core.units.contract import Unit


class TimeInvariant(Unit):
    """A unit with `coefficients()`; in evaluation a stream computes them once, not at every step.

    They are computed anew when any number among the parameters is another one, whoever changed it: an
    optimiser, a parametrization, `parameter.data`. So the numbers themselves are compared, which costs less
    than the coefficients; neither a version nor an address tells of all changes.
    """

    row_groups = 1  # what a call computes from the parameters costs as much as its tokens
    remembered: tuple[Any, tuple[Tensor, ...]] | None = None

    def coefficients(self) -> tuple[Tensor, ...]:
        """Coefficients of one step, in the precision of the state."""
        raise NotImplementedError

    def step_coefficients(self) -> tuple[Tensor, ...]:
        """`coefficients()`, remembered between steps where nothing is being trained."""
        if (
            self.training
            or torch.is_grad_enabled()
            or recording()
            or torch._C._are_functorch_transforms_active()
            or "parametrizations" in self._modules
        ):
            return self.coefficients()
        own = [part for part in self._parameters.values() if part is not None]
        if self.remembered is None or not all(map(same, own, self.remembered[0])):
            self.remembered = [part.detach().clone() for part in own], self.coefficients()
        return self.remembered[1]

    def train(self, mode: bool = True) -> "TimeInvariant":
        self.remembered = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "remembered": None}


def same(a: Tensor, b: Tensor) -> bool:
    """The same numbers of the same type at the same place."""
    return a.dtype is b.dtype and a.device == b.device and torch.equal(a, b)
