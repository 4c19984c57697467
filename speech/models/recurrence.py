"""A core unit over one axis in one or two directions, with cuDNN where the unit is the plain LSTM or GRU."""

from typing import Any

import torch
from torch import Tensor, nn

from core import registry
from core.units.gated.gru import GRU
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

    def forward(self, x: Tensor, states: tuple[Any, ...] | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """Run the sequence; with two directions the second one reads it from its end."""
        states = self.initial_state(x) if states is None else states
        if x.is_cuda and (kind := plain(self.units)) is not None:
            return on_cuda(kind, self.units, x, states)
        y, first = self.units[0](x, states[0])
        if self.directions == 1:
            return y, (first,)
        back, second = self.units[1](x.flip(1), states[1])
        return torch.cat([y, back.flip(1)], -1), (first, second)

    def step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """One token of the forward direction: x (B, I)."""
        y, state = self.units[0].step(x, states[0])  # pyright: ignore[reportCallIssue]
        return y, (state,)


def plain(units: nn.ModuleList) -> str | None:
    """Which cell of cuDNN these units are, if they are one with all its parts."""
    first = units[0]
    if type(first) is LSTM:
        usual = first.cell.options == (0, 1, 2, 3, False, True, True) and first.projection is None
        return (
            "lstm"
            if usual and first.weight_ph is None and first.weight_gg is None and first.bias_ih is not None
            else None
        )
    if type(first) is GRU:
        return (
            "gru" if (first.reset, first.update) == ("after", "keep") and first.bias_ih is not None else None
        )
    return None


def on_cuda(
    kind: str, units: nn.ModuleList, x: Tensor, states: tuple[Any, ...]
) -> tuple[Tensor, tuple[Any, ...]]:
    """The same numbers by cuDNN's own loop, both directions at once."""
    weights = [
        getattr(unit, name) for unit in units for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    both = len(units) == 2
    x = x.float()
    in_one_piece(kind, units, weights)
    parts = [state if isinstance(state, tuple) else (state,) for state in states]
    start = [torch.stack([part[i].float() for part in parts]) for i in range(len(parts[0]))]
    flags = (True, 1, 0.0, units.training, both, True)
    with torch.autocast("cuda", enabled=False):
        if kind == "lstm":
            y, *ends = torch._VF.lstm(x, start, weights, *flags)  # pyright: ignore
            return y, tuple(tuple(end[i] for end in ends) for i in range(len(units)))
        y, end = torch._VF.gru(x, start[0], weights, *flags)  # pyright: ignore
    return y, tuple(end[i] for i in range(len(units)))


def in_one_piece(kind: str, units: nn.ModuleList, weights: list[Any]) -> None:
    """Let the weights lie in one block of memory, as cuDNN wants them: else it copies them at every call."""
    places = tuple(weight.data_ptr() for weight in weights)
    if getattr(units, "places", None) == places or torch.is_inference_mode_enabled():
        return
    first: Any = units[0]
    mode = 2 if kind == "lstm" else 3  # cuDNN's own numbers
    sizes = (first.input_size, mode, first.hidden_size, 0, 1, True, len(units) == 2)
    try:
        with torch.no_grad():
            torch._cudnn_rnn_flatten_weight(weights, 4, *sizes)  # pyright: ignore
    except RuntimeError:  # slower, not wrong
        pass
    units.__dict__["places"] = tuple(weight.data_ptr() for weight in weights)
