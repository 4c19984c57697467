"""A time-invariant diagonal linear system with many inputs and outputs, under LRU and S5.

    h_t = a * h_{t-1} + B x_t          a (N) and B (N, I) complex
    y_t = Re(C h_t) + D x_t            C (H, N) complex; D (H), or (H, I) where widths differ

Complex products with real vectors are real products with pairs (Re, Im); only the recurrence is complex.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.fft_conv import fft_conv
from core.kernels.linear_scan import linear_scan, linear_scan_ref
from core.kernels.precision import state_zeros, widen
from core.parts.discretize import powers
from core.parts.lengths import at_end
from core.units.diagonal.scanned import scanned
from core.units.diagonal.time_invariant import TimeInvariant


class DiagonalSystem(TimeInvariant):
    """x (B, T, I), state (B, N, 2) as pairs (Re, Im) -> y (B, T, H), state."""

    modes = ("step", "sequential", "convolution", "scan")
    freezes = packs = True
    timed = "scan"

    def __init__(self, input_size: int, hidden_size: int, poles: int) -> None:
        super().__init__(input_size, hidden_size)
        if poles < 1 <= hidden_size:
            raise ConfigError(f"{type(self).__name__} needs a positive state_size")
        self.poles = poles
        square = input_size == hidden_size
        self.D = nn.Parameter(torch.randn((hidden_size,) if square else (hidden_size, input_size)))

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """log a (N) complex, B (N, 2, I) and C (H, N, 2) as pairs so that y = sum of Re * C_0 + Im * C_1."""
        raise NotImplementedError

    def initial_state(self, x: Tensor) -> Tensor:
        return state_zeros(x, x.shape[0], self.poles, 2)

    def coefficients(self) -> tuple[Tensor, ...]:
        """a (N) complex, B (2N, I) and C (H, 2N) real."""
        log_a, b, c = self.system()
        return log_a.exp(), b.flatten(0, 1), c.flatten(1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c = self.step_coefficients()
        h = a * torch.view_as_complex(state.contiguous()) + self.drive(x, b)
        return self.readout(h, c, x), torch.view_as_real(h)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        a, b, c = self.coefficients()
        start = torch.view_as_complex(state.contiguous())

        def terms(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            u = self.drive(tokens, b)
            return a.expand_as(u), u, tokens

        if mode == "scan":
            y, h = scanned(x, start, lengths, terms, lambda h, tokens: self.readout(h, c, tokens))
            return y, torch.view_as_real(h)
        decay, u, _ = terms(x)  # (B, T, N)
        if mode == "convolution":
            u = torch.cat([(u[:, 0] + a * start)[:, None], u[:, 1:]], 1)
            h = fft_conv(u, powers(self.system()[0], x.shape[1]).T)
        else:
            h = linear_scan_ref(decay, u, start)
        return self.readout(h, c, x), torch.view_as_real(at_end(h, lengths, start))

    def after(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """a over gaps (..) and what the drive is multiplied by: (.., N) each."""
        raise NotImplementedError

    def run_after(
        self, x: Tensor, state: Tensor, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        _, b, c = self.coefficients()
        a, factor = self.after(gaps)
        u, start = factor * self.drive(x, b), torch.view_as_complex(state.contiguous())
        h = linear_scan(a.to(u.dtype), u, start)
        return self.readout(h, c, x), torch.view_as_real(at_end(h, lengths, start))

    def drive(self, x: Tensor, b: Tensor) -> Tensor:
        """B x, complex: (..., I) -> (..., N)."""
        (u,) = widen(F.linear(x, b.to(x.dtype)))
        return torch.view_as_complex(u.unflatten(-1, (self.poles, 2)))

    def readout(self, h: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Re(C h) + D x: (..., N), (..., I) -> (..., H)."""
        y = F.linear(torch.view_as_real(h).flatten(-2).to(x.dtype), c.to(x.dtype))
        direct = x * self.D if self.D.ndim == 1 else F.linear(x, self.D)
        return (y + direct).to(x.dtype)
