"""A core unit over one axis in one or two directions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core import registry
from core.blocks.directions import onednn_layer, onednn_runs, run_directions


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
            return onednn_layer(list(self.units), x, states)
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
    """Whether oneDNN reads x (B, T, I)."""
    return x.shape[0] * x.shape[1] >= LIBRARY_TOKENS and onednn_runs(list(units), x)


def is_plain(unit: nn.Module) -> bool:
    """An LSTM with all gates and both biases, and nothing else."""
    return getattr(unit, "library", None) == "lstm"
