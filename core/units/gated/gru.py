"""Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

    r_t, z_t = sigmoid(W x_t + b + U h_{t-1} + c)
    n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))     reset="after" the product (torch, cuDNN)
    n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)     reset="before" it (the paper)
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}                     update="keep": z keeps (torch)
    h_t = z_t * n_t + (1 - z_t) * h_{t-1}                     update="write": z writes (1412.3555)

Weights are stacked (r, z, n) and named as in `torch.nn.GRU`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.gated.gated_unit import GatedUnit, added, maybe, uniform


class GRU(GatedUnit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H).

    Args:
        reset: "after" the product (torch) or "before" it (the paper).
        update: does z "keep" the old state (torch) or "write" the new one.
        bias: whether both biases are there.
    """

    paper = "Cho et al. 2014, arXiv 1406.1078"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset: str = "after",
        update: str = "keep",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if reset not in ("after", "before"):
            raise ConfigError(f"reset of a GRU is after or before, got {reset!r}")
        if update not in ("keep", "write"):
            raise ConfigError(f"update of a GRU is keep or write, got {update!r}")
        self.reset, self.update = reset, update
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih, self.bias_hh = maybe(bias, 3 * hidden_size), maybe(bias, 3 * hidden_size)
        uniform(self, hidden_size**-0.5)
        step = step_reset_before if reset == "before" else step_reset_after
        self.cell = Cell(step, "gru", (reset == "before",))

    @property
    def library(self) -> str | None:
        usual = (self.reset, self.update) == ("after", "keep")
        return "gru" if usual and not self.noisy and self.bias_ih is not None else None

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        bias, other = needed("a GRU", self.bias_ih, self.bias_hh)
        H = self.hidden_size
        keep = keep_logit(time_constants("a GRU", H, tokens))
        bias[H : 2 * H] = keep if self.update == "keep" else -keep
        other[H : 2 * H] = 0

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        bias = self.bias_ih if self.reset == "after" else added(self.bias_ih, self.bias_hh)
        return self.signed(self.weight_ih), self.signed(bias)

    def weights(self) -> tuple[Tensor | None, ...]:
        U = self.signed(self.weight_hh)
        if self.reset == "before":
            return U.split([2 * self.hidden_size, self.hidden_size])
        return U, self.signed(self.bias_hh)

    def signed(self, stacked: Any) -> Any:
        """Rows of z negated where z writes: 1 - sigmoid(a) = sigmoid(-a), so one loop serves both."""
        if self.update == "keep" or stacked is None:
            return stacked
        r, z, n = stacked.chunk(3)
        return torch.cat([r, -z, n])


def step_reset_after(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, 3 H); weights: U, c."""
    (h,), (U, c) = state, weights
    H = h.shape[-1]
    own = F.linear(seen(masks, h), U, c)  # pyright: ignore[reportArgumentType]
    r, z = (gates[..., : 2 * H] + own[..., : 2 * H]).sigmoid().chunk(2, -1)
    n = (gates[..., 2 * H :] + r * own[..., 2 * H :]).tanh()
    h = (1 - z) * written(masks, n) + z * h
    return h, (h,)


def step_reset_before(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, 3 H); weights: U of r and z, U of n."""
    (h,), (U_rz, U_n) = state, weights
    H = h.shape[-1]
    r, z = (gates[..., : 2 * H] + F.linear(seen(masks, h), U_rz)).sigmoid().chunk(2, -1)  # pyright: ignore
    n = (gates[..., 2 * H :] + F.linear(r * seen(masks, h), U_n)).tanh()  # pyright: ignore
    h = (1 - z) * written(masks, n) + z * h
    return h, (h,)
