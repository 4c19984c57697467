"""A core unit over one axis in one or two directions."""

from typing import Any

from torch import Tensor, nn

from core import registry
from core.blocks.directions import run_directions


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
        y, final = run_directions(list(self.units), x, states)
        assert final is not None
        return y, final

    def step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """One token of the forward direction: x (B, I)."""
        y, state = self.units[0].step(x, states[0])  # pyright: ignore[reportCallIssue]
        return y, (state,)
