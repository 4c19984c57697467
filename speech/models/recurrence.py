"""A core unit over one axis in one or two directions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core import registry
from core.blocks.directions import run_directions
from core.kernels.choice import recording
from core.units.gated.lstm import LSTM


class Recurrence(nn.Module):
    """x (B, T, I), states (None: initial) -> y (B, T, directions * H), states: one a direction."""

    def __init__(
        self, unit: str, input_size: int, hidden_size: int, *, directions: int = 1, **options: Any
    ) -> None:
        super().__init__()
        self.input_size, self.directions = input_size, directions
        self.units = nn.ModuleList(
            registry.build(unit, input_size, hidden_size, **options) for _ in range(directions)
        )
        self.output_size = directions * int(self.units[0].output_size)  # pyright: ignore[reportArgumentType]

    def initial_state(self, x: Tensor) -> tuple[Any, ...]:
        """States before the first token of x (B, ...)."""
        return tuple(unit.initial_state(x) for unit in self.units)  # pyright: ignore[reportCallIssue]

    def forward(
        self, x: Tensor, states: tuple[Any, ...] | None = None, norm: nn.LayerNorm | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Run the sequence, normalised first if so asked; the second direction reads it from its end."""
        train = bfloat16_loop(self.units, x) if states is None else None
        if train is not None:
            return train(list(self.units), x, norm)
        x = x if norm is None else norm(x)
        if library_here(self.units, x):
            return library(list(self.units), x, self.initial_state(x) if states is None else states)
        y, final = run_directions(list(self.units), x, states)
        assert final is not None
        return y, final

    def step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """One token of the forward direction: x (B, I)."""
        y, state = self.units[0].step(x, states[0])  # pyright: ignore[reportCallIssue]
        return y, (state,)


def bfloat16_loop(units: nn.ModuleList, x: Tensor) -> Callable[..., Any] | None:
    """The loop of plain LSTMs that are trained where bfloat16 is wanted, if the device of x has one."""
    kind = x.device.type
    if not torch.is_grad_enabled() or kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return None
    if torch.get_autocast_dtype(kind) is not torch.bfloat16 or not all(is_plain(unit) for unit in units):
        return None
    try:
        if kind == "cpu":
            from speech.models.bf16_lstm import train_directions
        else:
            from speech.models.bf16_lstm_gpu import WIDEST, train_directions

            if any(unit.hidden_size > WIDEST for unit in units):  # pyright: ignore[reportOperatorIssue]
                return None
    except ImportError:  # numba or triton is not installed
        return None
    return train_directions


LIBRARY_TOKENS = 4096
"""Fewer are not worth what oneDNN prepares for every new shape: blocks of a stream have any."""


def library_here(units: nn.ModuleList, x: Tensor) -> bool:
    """Whether torch's own LSTM may run: float32 on a CPU, nothing recorded, no gradient wanted.

    Its library takes 0.6 to 0.7 of the time of our compiled loop there.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32 or recording():
        return False
    return x.shape[0] * x.shape[1] >= LIBRARY_TOKENS and all(is_plain(unit) for unit in units)


def library(units: list[Any], x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """x (B, T, I) through plain LSTMs, one a direction: y (B, T, directions * H), their last states."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(unit, name) for unit in units for name in names]
    start = tuple(torch.stack([state[part] for state in states]) for part in (0, 1))
    both = len(units) == 2
    y, h, c = torch._VF.lstm(x, start, weights, True, 1, 0.0, False, both, True)  # pyright: ignore
    return y, tuple(zip(h.unbind(0), c.unbind(0), strict=True))


def is_plain(unit: nn.Module) -> bool:
    """An LSTM with all gates and both biases, and nothing else."""
    if type(unit) is not LSTM or unit.gates != ("i", "f", "g", "o") or unit.bias_ih is None:
        return False
    extra = (unit.projection, unit.weight_ph, unit.weight_gg)
    return all(part is None for part in extra) and unit.squash_input and unit.squash_output
