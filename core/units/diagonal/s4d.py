"""S4D, a diagonal state-space system for each input channel (Gu et al. 2022, arXiv 2206.11893).

    A   = -exp(log_A_real) + i A_imag          a = exp(dt A),  dt = exp(log_dt)
    h_t = a * h_{t-1} + (a - 1) / A * x_t      N/2 complex numbers a channel, x_t one number
    v_t = 2 Re(sum_n C_n h_n) + D x_t
    y_t = GLU(W gelu(v_t) + b)

over all channels at once. B is folded into C; one pole of each conjugate pair is kept. As a convolution:

    v = K * x + D x        K_l = 2 Re sum_n C_n (a_n - 1) / A_n a_n^l
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.linear_scan import linear_scan
from core.kernels.precision import state_zeros, widen
from core.parts.discretize import log_uniform, power, powers, zero_order_hold
from core.parts.lengths import at_end
from core.parts.memory import Tokens, time_constants
from core.parts.options import one_of, steps
from core.parts.packed import packed
from core.units.diagonal.block_convolution import block_convolution
from core.units.diagonal.time_invariant import TimeInvariant


class S4D(TimeInvariant):
    """x (B, T, I), state (B, I, N/2, 2) as pairs (Re, Im) -> y (B, T, H), state.

    Args:
        state_size: N real dimensions a channel, even.
        init: poles at pi n ("lin") or spread as HiPPO's ("inv").
        dt_min, dt_max: step sizes at the start are spread between them in the logarithm.
    """

    modes = ("step", "sequential", "scan", "convolution")
    freezes = True
    timed = "scan"
    paper = "Gu et al. 2022, Parameterization and initialization of diagonal state space models, 2206.11893"
    slow = ("log_dt", "log_A_real", "A_imag")
    no_decay = ("D",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 64,
        init: str = "lin",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if state_size < 2 or state_size % 2:
            raise ConfigError(f"{type(self).__name__} needs an even state_size, got {state_size}")
        one_of("S4D", "init", init, ("lin", "inv"))
        steps(type(self).__name__, dt_min, dt_max)
        self.pairs = half = state_size // 2
        n = torch.arange(half)
        frequency = math.pi * n if init == "lin" else state_size / math.pi * (state_size / (2 * n + 1) - 1)
        self.log_dt = nn.Parameter(log_uniform((input_size,), dt_min, dt_max))
        self.log_A_real = nn.Parameter(torch.full((input_size, half), math.log(0.5)))
        self.A_imag = nn.Parameter(frequency.repeat(input_size, 1))
        self.C = nn.Parameter(math.sqrt(0.5) * torch.randn(input_size, half, 2))
        self.D = nn.Parameter(torch.randn(input_size))
        self.out = nn.Linear(input_size, 2 * hidden_size)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        # poles begin with a real part near -1/2
        self.log_dt.copy_((2 / time_constants(type(self).__name__, self.input_size, tokens)).log())

    def initial_state(self, x: Tensor) -> Tensor:
        return state_zeros(x, x.shape[0], self.input_size, self.pairs, 2)

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """log a, the factor of x, and C: complex, (I, N/2) each."""
        log_dt, log_real, imaginary, c = widen(self.log_dt, self.log_A_real, self.A_imag, self.C)
        log_a, gain = zero_order_hold(torch.complex(-log_real.exp(), imaginary), log_dt.exp()[:, None])
        return log_a, gain, torch.view_as_complex(c)

    def kernel(self, time: int) -> Tensor:
        """K (I, T), the answer to an impulse."""
        log_a, gain, c = self.system()
        return 2 * ((c * gain)[:, None] @ powers(log_a, time))[:, 0].real

    def coefficients(self) -> tuple[Tensor, ...]:
        log_a, gain, c = self.system()
        return log_a.exp(), gain, 2 * c

    def advance(self, h: Tensor, u: Tensor, coefficients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """One step of all channels: h (B, I, N/2) complex, u (B, I) -> h and 2 Re(C h) (B, I)."""
        a, gain, c = coefficients
        h = a * h + gain * u[..., None]
        return h, (c * h).real.sum(-1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        (u,) = widen(x)
        h, v = self.advance(torch.view_as_complex(state.contiguous()), u, self.step_coefficients())
        return self.readout(v, x), torch.view_as_real(h)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        h = torch.view_as_complex(state.contiguous())
        (u,) = widen(x)
        if mode == "convolution":
            v, h = self.convolve(u, h, lengths)
        elif mode == "scan":
            v, h = self.scan(u, h, lengths)
        else:
            coefficients, rows = self.coefficients(), []
            for t, u_t in enumerate(u.unbind(1)):
                after, v_t = self.advance(h, u_t, coefficients)
                h = after if lengths is None else torch.where((lengths > t)[:, None, None], after, h)
                rows.append(v_t)
            v = torch.stack(rows, 1)
        valid = packed(x, lengths)
        if valid is None:
            return self.readout(v, x), torch.view_as_real(h)
        y = self.readout(valid.pack(v), valid.pack(x))  # which looks at tokens alone
        return valid.unpack(y), torch.view_as_real(h)

    def scan(self, u: Tensor, h: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v (B, T, I) without the direct term, and the last state: keeps all states (B, T, I, N/2)."""
        a, gain, c = self.coefficients()
        inputs = (gain * u[..., None]).flatten(2)
        states = linear_scan(a.flatten().expand_as(inputs), inputs, h.flatten(1)).unflatten(2, c.shape)
        return (c * states).real.sum(-1), at_end(states, lengths, h)

    def run_after(
        self, x: Tensor, state: Tensor, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        h = torch.view_as_complex(state.contiguous())
        log_dt, log_real, imaginary, c, u = widen(self.log_dt, self.log_A_real, self.A_imag, self.C, x)
        step = gaps[..., None, None] * log_dt.exp()[:, None]
        log_a, gain = zero_order_hold(torch.complex(-log_real.exp(), imaginary), step)
        inputs = (gain * u[..., None]).flatten(2)
        states = linear_scan(log_a.exp().flatten(2), inputs, h.flatten(1)).unflatten(2, c.shape[:2])
        v = 2 * (torch.view_as_complex(c) * states).real.sum(-1)
        return self.readout(v, x), torch.view_as_real(at_end(states, lengths, h))

    def convolve(self, u: Tensor, h: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same in blocks, without the states between."""
        log_a, gain, c = self.system()
        grow = log_a.exp()

        table = log_a[..., :0]

        def parts(length: int) -> tuple[Tensor, Tensor, Tensor]:
            nonlocal table
            table = decays = powers(log_a, length)  # (I, N/2, L)
            kernel = 2 * ((c * gain)[:, None] @ decays)[:, 0].real
            out = torch.view_as_real(2 * (c * grow)[..., None] * decays)
            readout = torch.stack([out[..., 0], -out[..., 1]], 2).flatten(1, 2)  # (I, N, L)
            into = torch.view_as_real((gain[..., None] * decays).flip(-1))
            return kernel, readout, into.permute(0, 2, 1, 3).flatten(2)  # (I, L, N)

        def transition(length: int | Tensor) -> Callable[[Tensor], Tensor]:
            if isinstance(length, Tensor):  # of a block at most: from the table, which costs no exponentials
                decay = (table.index_select(-1, length - 1) * grow[..., None]).mT
            else:
                decay = power(log_a[:, None], length)

            def advance(state: Tensor) -> Tensor:
                pairs = torch.view_as_complex(state.unflatten(-1, (-1, 2)).contiguous())
                return torch.view_as_real(pairs * decay).flatten(-2)

            return advance

        start = torch.view_as_real(h).flatten(2)
        v, end = block_convolution(u, start, parts, transition, lengths)
        return v, torch.view_as_complex(end.unflatten(2, (-1, 2)))

    def readout(self, v: Tensor, x: Tensor) -> Tensor:
        v = F.gelu(v + self.D * x).to(x.dtype)
        return F.glu(self.out(v), -1).to(x.dtype)
