"""S4, a structured state-space system for each input channel (Gu et al. 2021, arXiv 2111.00396).

    A   = Lambda - P P^*                                         Lambda = -exp(log_A_real) + i A_imag
    h_t = (2/dt - A)^-1 ((2/dt + A) h_{t-1} + 2 B x_t)           bilinear, dt = exp(log_dt)
    v_t = 2 Re(C h_t) + D x_t
    y_t = GLU(W gelu(v_t) + b)

Poles come in conjugate pairs, one of each is kept. A step costs O(N), by

    (2/dt - A)^-1 = E - E P (1 + P^* E P)^-1 P^* E               E = (2/dt - Lambda)^-1

The kernel K_l = C A_bar^l B_bar of length L comes from its generating function at the roots of unity w,
written here without the pole that the usual form has at w = -1:

    K^(w) = r(C~, B) - (1 + w)/2 r(C~, P) r(P, B) / (1 + (1 + w)/2 r(P, P))
    r(u, v) = sum_n u_n v_n 2 dt / (2 (1 - w) - dt Lambda_n (1 + w))        (P on the left is conjugate)
    C~ = C (I - A_bar^L)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.kernels.precision import widen
from core.parts.options import one_of
from core.units.contract import Unit
from core.units.diagonal.block_convolution import block_convolution
from core.units.diagonal.hippo import nplr
from core.units.diagonal.s4d import S4D


class S4(S4D):
    """x (B, T, I), state (B, I, N/2, 2) as pairs (Re, Im) -> y (B, T, H), state.

    Args:
        state_size: N real dimensions a channel, even.
        measure: A as HiPPO's "legs" or "fout".
        dt_min, dt_max: step sizes at the start are spread between them in the logarithm.
    """

    modes = ("step", "sequential", "convolution")
    timed = "sequential"
    paper = (
        "Gu et al. 2021, Efficiently modeling long sequences with structured state spaces, arXiv 2111.00396"
    )
    slow = ("log_dt", "log_A_real", "A_imag", "P")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 64,
        measure: str = "legs",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        one_of("S4", "measure", measure, ("legs", "fout"))
        super().__init__(input_size, hidden_size, state_size=state_size, dt_min=dt_min, dt_max=dt_max)
        poles, p, b, _ = nplr(measure, state_size)

        def pairs(row: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.view_as_real(row.to(torch.complex64)).repeat(input_size, 1, 1))

        # a real part of zero (fout) would have no logarithm
        real = (-poles.real).clamp(min=1e-3).log().float()
        self.log_A_real = nn.Parameter(real.repeat(input_size, 1))
        self.A_imag = nn.Parameter(poles.imag.float().repeat(input_size, 1))
        self.P = pairs(p)
        self.B = pairs(b)

    def terms(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """dt (I, 1); Lambda, P, B, C (I, N/2) complex."""
        log_dt, log_real, imaginary, p, b, c = widen(
            self.log_dt, self.log_A_real, self.A_imag, self.P, self.B, self.C
        )
        poles = torch.complex(-log_real.exp(), imaginary)
        p, b, c = (torch.view_as_complex(part) for part in (p, b, c))
        return log_dt.exp()[:, None], poles, p, b, c

    def coefficients(self) -> tuple[Tensor, ...]:
        dt, poles, p, b, c = self.terms()
        return *bilinear(dt, poles, p, b), 2 * c

    def advance(self, h: Tensor, u: Tensor, coefficients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        *solver, c = coefficients
        h = bilinear_step(h, u, *solver)
        return h, (c * h).real.sum(-1)

    def step_after(self, x: Tensor, state: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        dt, poles, p, b, c = self.terms()
        h = torch.view_as_complex(state.contiguous())
        (u,) = widen(x)
        some = (gap > 0)[:, None, None]
        solver = bilinear(torch.where(some, gap[:, None, None], 1) * dt, poles, p, b)
        h = torch.where(some, bilinear_step(h, u, *solver), h)
        return self.readout(2 * (c * h).real.sum(-1), x), torch.view_as_real(h)

    def run_after(
        self, x: Tensor, state: Tensor, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return Unit.run_after(self, x, state, gaps, mode, lengths)

    def convolve(self, u: Tensor, h: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        dt, poles, p, b, c = self.terms()
        a_bar, b_bar = dense(dt, poles, p, b)
        c_real, powers = real_row(c), Powers(a_bar)

        def parts(length: int) -> tuple[Tensor, Tensor, Tensor]:
            into, out = krylov(powers, b_bar, c_real, length)
            short = c - complex_row((out[:, -1:])[:, 0])  # C (I - A_bar^L)
            return dplr_kernel(dt, poles, p, b, short, length), out.transpose(1, 2), into.flip(1)

        def transition(length: int | Tensor) -> Callable[[Tensor], Tensor]:
            if isinstance(length, Tensor):
                return lambda state: powers.of_rows(state, length)
            return lambda state: powers.of_all(state, length)

        v, end = block_convolution(u, torch.view_as_real(h).flatten(2), parts, transition, lengths)
        return v, torch.view_as_complex(end.unflatten(2, (-1, 2)))

    def kernel(self, time: int) -> Tensor:
        """K (I, T), the answer to an impulse."""
        dt, poles, p, b, c = self.terms()
        return dplr_kernel(dt, poles, p, b, shortened(dt, poles, p, c, time), time)


def bilinear(dt: Tensor, poles: Tensor, p: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """What `bilinear_step` needs: E (2/dt + Lambda), E P, 2 E B, 2 P^*, E P / (1 + P^* E P)."""
    inverse = 1 / (2 / dt - poles)
    low, watch = inverse * p, 2 * p.conj().resolve_conj()  # both halves of a pair: 2 Re over one
    back = low / (1 + (watch * low).real.sum(-1, keepdim=True))
    return inverse * (2 / dt + poles), low, 2 * inverse * b, watch, back


def bilinear_step(
    h: Tensor, u: Tensor, keep: Tensor, low: Tensor, gain: Tensor, watch: Tensor, back: Tensor
) -> Tensor:
    """Solve (2/dt - A) h' = (2/dt + A) h + 2 B u for h (..., I, N/2) and u (..., I)."""
    h = keep * h - low * (watch * h).real.sum(-1, keepdim=True) + gain * u[..., None]
    return h - back * (watch * h).real.sum(-1, keepdim=True)


def dense(dt: Tensor, poles: Tensor, p: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A_bar (I, N, N) and B_bar (I, N) on the real coordinates (Re h_1, Im h_1, Re h_2, ...)."""
    solver = bilinear(dt, poles, p, b)
    size = 2 * poles.shape[1]
    basis = torch.view_as_complex(torch.eye(size, dtype=dt.dtype, device=dt.device).unflatten(1, (-1, 2)))
    columns = bilinear_step(basis[:, None], torch.zeros_like(dt[:, 0]), *solver)  # (N, I, N/2)
    b_bar = bilinear_step(torch.zeros_like(b), torch.ones_like(dt[:, 0]), *solver)
    return torch.view_as_real(columns).flatten(2).permute(1, 2, 0), torch.view_as_real(b_bar).flatten(1)


def real_row(c: Tensor) -> Tensor:
    """c (I, N/2) as a row on the real coordinates, so that row . h = 2 Re(c h)."""
    return torch.stack([2 * c.real, -2 * c.imag], 2).flatten(1)


def complex_row(row: Tensor) -> Tensor:
    """The inverse of `real_row`."""
    re, im = row.unflatten(1, (-1, 2)).unbind(2)
    return torch.complex(re / 2, -im / 2)


class Powers:
    """A_bar^(2^k) (I, N, N), each squared once for all that a call asks; states are (I, B, N)."""

    def __init__(self, a_bar: Tensor) -> None:
        self.squared = [a_bar]

    def __getitem__(self, k: int) -> Tensor:
        while len(self.squared) <= k:
            self.squared.append(self.squared[-1] @ self.squared[-1])
        return self.squared[k]

    def of_all(self, state: Tensor, count: int) -> Tensor:
        """A_bar^count of each row."""
        for k in range(count.bit_length()):
            if count >> k & 1:
                state = state @ self[k].transpose(1, 2)
        return state

    def of_rows(self, state: Tensor, counts: Tensor) -> Tensor:
        """A_bar^counts of each row, counts (B,)."""
        for k in range(int(counts.max()).bit_length()):
            rows = (counts >> k & 1).nonzero().squeeze(1)
            moved = state.index_select(1, rows) @ self[k].transpose(1, 2)
            state = state.index_copy(1, rows, moved)
        return state


def krylov(powers: Powers, b_bar: Tensor, c: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """A_bar^l B_bar for l = 0 .. L-1 and C A_bar^l for l = 1 .. L, by doubling: (I, L, N) each."""
    into, out, k = b_bar[:, None], c[:, None] @ powers[0], 0
    while into.shape[1] < length:
        missing = length - into.shape[1]
        into = torch.cat([into, into[:, :missing] @ powers[k].transpose(1, 2)], 1)
        out = torch.cat([out, out[:, :missing] @ powers[k]], 1)
        k += 1
    return into, out


def shortened(dt: Tensor, poles: Tensor, p: Tensor, c: Tensor, length: int) -> Tensor:
    """C~ = C (I - A_bar^L), (I, N/2) complex."""
    a_bar, _ = dense(dt, poles, p, torch.zeros_like(p))
    lost = real_row(c)[:, None] @ torch.linalg.matrix_power(a_bar, length)
    return c - complex_row(lost[:, 0])


def dplr_kernel(dt: Tensor, poles: Tensor, p: Tensor, b: Tensor, short_c: Tensor, length: int) -> Tensor:
    """K (I, L) from its generating function; `short_c` is C~. dt (I, 1), the others (I, N/2) complex."""
    turns = torch.arange(length // 2 + 1, dtype=torch.float64, device=dt.device) / length
    z = torch.polar(torch.ones_like(turns), -2 * math.pi * turns).to(poles.dtype)[:, None]  # (F, 1)
    both = torch.cat([poles, poles.conj()], 1)[:, None]  # (I, 1, N)
    cauchy = 2 * dt[..., None] / (2 * (1 - z) - dt[..., None] * both * (1 + z))  # (I, F, N)

    def r(u: Tensor, v: Tensor) -> Tensor:
        product = u * v
        return (cauchy @ torch.cat([product, product.conj()], 1)[..., None])[..., 0]

    half = (1 + z[:, 0]) / 2
    spectrum = r(short_c, b) - half * r(short_c, p) * r(p.conj(), b) / (1 + half * r(p.conj(), p))
    return torch.fft.irfft(spectrum, length)
