"""LRU, linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349).

    a   = exp(-exp(nu) + i exp(theta))
    h_t = a * h_{t-1} + exp(gamma) * (B x_t)
    y_t = Re(C h_t) + D x_t

|a| < 1 for every value of the parameters; at the start it is uniform on a ring, and gamma keeps the
variance of the state that of the input.
"""

import math

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.precision import widen
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.options import sizes
from core.units.diagonal.diagonal_system import DiagonalSystem


class LRU(DiagonalSystem):
    """x (B, T, I), state (B, N, 2) as pairs (Re, Im) -> y (B, T, H), state.

    Args:
        state_size: N complex numbers; None is H.
        r_min, r_max: |a| at the start lies between them.
        max_phase: angles at the start lie below it.
    """

    paper = "Orvieto et al. 2023, Resurrecting recurrent neural networks for long sequences, arXiv 2303.06349"
    slow = ("nu_log", "theta_log", "gamma_log")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
    ) -> None:
        sizes("LRU", state_size=state_size)
        poles = hidden_size if state_size is None else state_size
        super().__init__(input_size, hidden_size, poles)
        if not 0 <= r_min < r_max <= 1 or max_phase <= 0:
            raise ConfigError(
                f"LRU needs 0 <= r_min < r_max <= 1 and a phase, got {r_min}, {r_max}, {max_phase}"
            )
        # uniform(0, 1) without its ends, where a logarithm below is infinite
        radius, phase = torch.rand(2, poles).clamp(1e-4, 1 - 1e-4)
        self.nu_log = nn.Parameter((-0.5 * (radius * (r_max**2 - r_min**2) + r_min**2).log()).log())
        self.theta_log = nn.Parameter((max_phase * phase).log())
        self.gamma_log = nn.Parameter(0.5 * (-torch.expm1(-2 * self.nu_log.data.exp())).log())
        spread = (2 * input_size) ** -0.5
        self.B_re = nn.Parameter(spread * torch.randn(poles, input_size))
        self.B_im = nn.Parameter(spread * torch.randn(poles, input_size))
        self.C_re = nn.Parameter(poles**-0.5 * torch.randn(hidden_size, poles))
        self.C_im = nn.Parameter(poles**-0.5 * torch.randn(hidden_size, poles))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        rate = -log_keep(time_constants("an LRU", self.poles, tokens))
        self.nu_log.copy_(rate.log())
        self.gamma_log.copy_(0.5 * (-torch.expm1(-2 * rate)).log())

    def after(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """The variance of the state stays that of the input over any gap."""
        log_a = self.system()[0]
        over = gaps[..., None] * log_a
        return over.exp(), (torch.expm1(2 * over.real) / torch.expm1(2 * log_a.real)).sqrt()

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        nu, theta, gamma = widen(self.nu_log, self.theta_log, self.gamma_log)
        log_a = torch.complex(-nu.exp(), theta.exp())
        b = torch.stack([self.B_re, self.B_im], 1) * gamma.exp()[:, None, None]
        return log_a, b, torch.stack([self.C_re, -self.C_im], 2)
