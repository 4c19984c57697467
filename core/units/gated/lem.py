"""Long expressive memory (Rusch et al. 2021, arXiv 2110.04744): two states that move at their own pace.

    d_z = dt sigmoid(W_1 x_t + U_1 y_{t-1} + b_1)        d_y = dt sigmoid(W_2 x_t + U_2 y_{t-1} + b_2)
    z_t = (1 - d_z) * z_{t-1} + d_z * tanh(W_z x_t + U_z y_{t-1} + b_z)
    y_t = (1 - d_y) * y_{t-1} + d_y * tanh(W_y x_t + V z_t + b_y)

y reads the new z. Weights are stacked as in the authors' code: `weight_ih` and `bias` (d_y, d_z, y, z),
`weight_hh` (d_y, d_z, z); `weight_z` is V.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.gated.gated_unit import GatedUnit, maybe, uniform


class LEM(GatedUnit):
    """x (B, T, I), state y, z (B, H) -> y (B, T, H), state.

    Args:
        dt: longest step of both states, in (0, 1].
        bias: whether there is one.
    """

    paper = "Rusch et al. 2021, arXiv 2110.04744"
    states = 2
    timed = "sequential"

    def __init__(self, input_size: int, hidden_size: int, *, dt: float = 1.0, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        if not 0 < dt <= 1:
            raise ConfigError(f"dt of a LEM must be in (0, 1], got {dt!r}")
        self.dt = dt
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.weight_z = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = maybe(bias, 4 * hidden_size)
        uniform(self, hidden_size**-0.5)
        self.cell = Cell(partial(lem_step, dt), "lem", (dt,))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        (bias,) = needed("a LEM", self.bias)
        tau = time_constants("a LEM", self.hidden_size, tokens)
        # a gate cannot keep less than 1 - dt
        bias[: 2 * self.hidden_size] = -keep_logit((self.dt * tau).clamp(min=1.01)).repeat(2)

    def step_after(self, x: Tensor, state: Any, gap: Tensor) -> tuple[Tensor, Any]:
        longest = (self.dt * gap).clamp(max=1).to(x.dtype).unsqueeze(1)
        return lem_step(longest, F.linear(x, *self.input_weights()), state, self.weights())

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, self.bias

    def weights(self) -> tuple[Tensor, ...]:
        return self.weight_hh, self.weight_z


def lem_step(
    dt: float | Tensor, gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, 4 H); weights: U, V."""
    (y, z), (U, V) = state, weights
    d_y, d_z, of_y, of_z = gates.chunk(4, -1)
    own_y, own_z, own = F.linear(seen(masks, y), U).chunk(3, -1)  # pyright: ignore[reportArgumentType]
    d_y, d_z = dt * (d_y + own_y).sigmoid(), dt * (d_z + own_z).sigmoid()
    z = (1 - d_z) * z + d_z * written(masks, (of_z + own).tanh())
    y = (1 - d_y) * y + d_y * written(masks, (of_y + F.linear(z, V)).tanh())  # pyright: ignore[reportArgumentType]
    return y, (y, z)
