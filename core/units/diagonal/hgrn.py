"""HGRN, a gated linear recurrence whose forget gate has a lower bound (Qin et al. 2023, arXiv 2311.04823).

    f_t = gamma + (1 - gamma) * sigmoid(W_f x_t)
    c_t = silu(W_c x_t)
    h_t = f_t * h_{t-1} + (1 - f_t) * c_t
    y_t = W_o (silu(W_g x_t) * norm(h_t))              norm: root mean square, with a learned weight

With rotation, as in the paper, state and c are complex (W_c gives Re and Im) and the decay also turns:
h_t = f_t exp(i theta) * h_{t-1} + (1 - f_t) * c_t; the output then reads both parts.

A network gives its layer l the bound gamma_l = sum_{j<l} softmax(Gamma)_j, so that upper layers
remember longer: see `lower_bounds`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.linear_scan import linear_scan_ref
from core.kernels.precision import state_zeros, widen
from core.parts.lengths import at_end
from core.parts.memory import Tokens, time_constants
from core.parts.options import above_zero
from core.units.contract import Unit
from core.units.diagonal.scanned import scanned


class HGRN(Unit):
    """x (B, T, I), state (B, H), with rotation (B, H, 2) as pairs (Re, Im) -> y (B, T, H), state.

    Args:
        lower_bound: gamma in [0, 1).
        rotation: is the state complex, as in the paper.
        eps: of the norm.
    """

    bound: Tensor | None
    modes = ("step", "sequential", "scan")
    freezes = packs = True
    paper = "Qin et al. 2023, Hierarchically gated recurrent neural network, arXiv 2311.04823"
    no_decay = ("norm",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        lower_bound: float = 0.0,
        rotation: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not 0 <= lower_bound < 1:
            raise ConfigError(f"lower_bound of HGRN must be in [0, 1), got {lower_bound}")
        above_zero("HGRN", eps=eps)
        self.lower_bound, self.eps = lower_bound, eps
        self.register_buffer("bound", None)  # one for each channel, where `remember` sets it
        parts = 2 if rotation else 1
        self.forget = nn.Linear(input_size, hidden_size, bias=False)
        self.value = nn.Linear(input_size, parts * hidden_size, bias=False)
        self.gate = nn.Linear(input_size, parts * hidden_size, bias=False)
        self.norm = nn.Parameter(torch.ones(parts * hidden_size))
        self.out = nn.Linear(parts * hidden_size, hidden_size, bias=False)
        # frequencies from one turn in 2 pi tokens down to one in 60000, as rotary embeddings have
        turn = torch.exp(-math.log(1e4) * torch.arange(hidden_size) / hidden_size)
        self.theta = nn.Parameter(turn) if rotation else None

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        # without a bias the gate is half open at zero input, so the bound holds the memory
        bound = (1 - 2 / time_constants("HGRN", self.hidden_size, tokens)).clamp(min=0)
        self.register_buffer("bound", bound.float())

    def initial_state(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], self.hidden_size)
        return state_zeros(x, *shape) if self.theta is None else state_zeros(x, *shape, 2)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decay and input of the recurrence for x (..., I): (..., H), complex with rotation."""
        f, c = widen(self.forget(x), self.value(x))
        bound = self.lower_bound if self.bound is None else self.bound.to(f.dtype)
        f = bound + (1 - bound) * f.sigmoid()
        c = F.silu(c)
        if self.theta is None:
            return f, (1 - f) * c
        c = torch.view_as_complex(c.unflatten(-1, (-1, 2)))
        (theta,) = widen(self.theta.to(f.dtype))
        return torch.polar(f, theta.expand_as(f)), (1 - f) * c

    def readout(self, h: Tensor, x: Tensor) -> Tensor:
        if self.theta is not None:
            h = torch.view_as_real(h).flatten(-2)
        h = F.rms_norm(h, h.shape[-1:], self.norm.to(h.dtype), self.eps)
        return self.out((F.silu(self.gate(x)) * h).to(x.dtype)).to(x.dtype)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.terms(x)
        h = a * self.inside(state) + b
        return self.readout(h, x), self.outside(h)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        start = self.inside(state)
        if mode == "scan":
            y, h = scanned(x, start, lengths, lambda tokens: (*self.terms(tokens), tokens), self.readout)
            return y, self.outside(h)
        a, b = self.terms(x)
        states = linear_scan_ref(a, b, start)
        return self.readout(states, x), self.outside(at_end(states, lengths, start))

    def inside(self, state: Tensor) -> Tensor:
        return state if self.theta is None else torch.view_as_complex(state.contiguous())

    def outside(self, h: Tensor) -> Tensor:
        return h if self.theta is None else torch.view_as_real(h)


def lower_bounds(logits: Tensor) -> Tensor:
    """Bounds of all layers (L, H) from learned logits (L, H): 0 for the first, rising, below 1."""
    shares = logits.softmax(0)
    return shares.cumsum(0) - shares[:1]
