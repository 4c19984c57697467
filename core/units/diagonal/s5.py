"""S5, one state-space system with many inputs and outputs (Smith et al. 2022, arXiv 2208.04933).

    a   = exp(dt * Lambda)             Lambda = -exp(log_A_real) + i A_imag, a step size dt for each pole
    h_t = a * h_{t-1} + (a - 1) / Lambda * (B x_t)
    y_t = 2 Re(C h_t) + D x_t          one of each conjugate pair is kept

Lambda begins as the eigenvalues of the normal part of HiPPO-LegS, one block or several.
"""

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.precision import widen
from core.parts.discretize import log_uniform, zero_order_hold
from core.parts.memory import Tokens, time_constants
from core.parts.options import steps
from core.units.diagonal.diagonal_system import DiagonalSystem
from core.units.diagonal.hippo import nplr


class S5(DiagonalSystem):
    """x (B, T, I), state (B, N/2, 2) as pairs (Re, Im) -> y (B, T, H), state.

    Args:
        state_size: N real dimensions of the state.
        blocks: HiPPO blocks of even size that N is divided into.
        dt_min, dt_max: step sizes at the start are spread between them in the logarithm.
    """

    paper = "Smith et al. 2022, Simplified state space layers for sequence modeling, arXiv 2208.04933"
    slow = ("log_dt", "log_A_real", "A_imag")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 64,
        blocks: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        if blocks < 1 or state_size < 2 or state_size % (2 * blocks):
            raise ConfigError(f"S5 needs blocks of even size, got a state of {state_size} in {blocks} blocks")
        steps("S5", dt_min, dt_max)
        super().__init__(input_size, hidden_size, state_size // 2)
        size = state_size // blocks
        poles, _, _, vectors = nplr("legs", size)
        v = vectors.to(torch.complex64)
        a = poles.repeat(blocks)
        self.log_dt = nn.Parameter(log_uniform((self.poles,), dt_min, dt_max))
        self.log_A_real = nn.Parameter((-a.real).log().float())
        self.A_imag = nn.Parameter(a.imag.float().clone())
        # random matrices in the original basis, moved to that of the eigenvectors
        b = torch.randn(blocks, size, input_size) * input_size**-0.5
        c = torch.randn(hidden_size, blocks, size) * state_size**-0.5
        b = (v.conj().T @ b.to(v.dtype)).reshape(self.poles, input_size)
        c = (c.to(v.dtype) @ v).reshape(hidden_size, self.poles)
        self.B = nn.Parameter(torch.view_as_real(b).contiguous())  # (N/2, I, 2)
        self.C = nn.Parameter(torch.view_as_real(c).contiguous())  # (H, N/2, 2)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        # poles begin with a real part of -1/2
        self.log_dt.copy_((2 / time_constants("an S5", self.poles, tokens)).log())

    def after(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        log_dt, log_real, imaginary = widen(self.log_dt, self.log_A_real, self.A_imag)
        poles = torch.complex(-log_real.exp(), imaginary)
        log_a, gain = zero_order_hold(poles, gaps[..., None] * log_dt.exp())
        return log_a.exp(), gain / zero_order_hold(poles, log_dt.exp())[1]

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        log_dt, log_real, imaginary, b, c = widen(self.log_dt, self.log_A_real, self.A_imag, self.B, self.C)
        log_a, gain = zero_order_hold(torch.complex(-log_real.exp(), imaginary), log_dt.exp())
        b = torch.view_as_real(gain[:, None] * torch.view_as_complex(b))
        return log_a, b.transpose(1, 2), 2 * torch.stack([c[..., 0], -c[..., 1]], 2)
