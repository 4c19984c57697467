"""Noise on the recurrence of gated units: zoneout (arXiv 1606.01305) and dropped weights (arXiv 1708.02182).

    zoneout       h_t = d * h_{t-1} + (1 - d) * h~_t      d = 1 with chance p: per row, channel and token
                  in evaluation h_t = p h_{t-1} + (1 - p) h~_t
    weight drop   U with numbers missing, others scaled up: one mask for all tokens of a call

Both draw from torch's generator of the device, so a resumed run draws the same.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, States, Weights


@dataclass(frozen=True)
class Noise:
    """What is done to a cell and its recurrent weights."""

    zoneout: tuple[float, ...]
    """Chance for each state of the unit, h first."""
    weight_drop: float

    def on(self, cell: Cell, weights: Weights, training: bool) -> tuple[Cell, Weights]:
        """The cell and weights of one call."""
        if training and self.weight_drop:
            weights = tuple(
                part if part is None or part.ndim == 1 else F.dropout(part, self.weight_drop)
                for part in weights
            )
        if any(self.zoneout):
            cell = Cell(partial(zoned, cell.step, self.zoneout, training))
        return cell, weights


def zoned(
    step: Any, rates: tuple[float, ...], training: bool, gates: Tensor, state: States, weights: Weights
) -> tuple[Tensor, States]:
    """One step that keeps parts of the old state; y is the first state after it."""
    _, after = step(gates, state, weights)

    def mixed(old: Tensor, new: Tensor, rate: float) -> Tensor:
        if training:
            return torch.where(torch.rand_like(new) < rate, old, new)
        return rate * old + (1 - rate) * new

    kept = tuple(map(mixed, state, after, rates))
    return kept[0], kept


def checked_noise(unit: str, states: int, zoneout: Any, weight_drop: float) -> Noise:
    """Noise from options, a zoneout for all states or one for each.

    Raises:
        ConfigError: a chance outside 0 <= p < 1, or of another number of states.
    """
    given = zoneout if isinstance(zoneout, tuple | list) else (zoneout,) * states
    rates = tuple(0.0 if rate is None else float(rate) for rate in given)
    if len(rates) != states or not all(0 <= rate < 1 for rate in (*rates, weight_drop)):
        raise ConfigError(
            f"{unit} takes zoneout in 0 <= p < 1, one or one for each of {states} states, and such a "
            f"weight_drop; got {zoneout!r} and {weight_drop!r}"
        )
    return Noise(rates, float(weight_drop))
