"""What minGRU and minLSTM share: a state that moves towards a value by a gate that does not see it.

    h_t = (1 - z_t) * h_{t-1} + z_t * v_t              v_t = W_v x_t + b_v, or g of it
    y_t = h_t                                          (with projection: W_o h_t)

No gate looks at h_{t-1}, so a whole sequence is one linear scan. The authors' log-space form needs positive
values, g(v) = v + 1/2 for v >= 0, else sigmoid(v); a scan in linear space computes it more exactly than
logarithms do, so the form remains as an option of the values alone.
"""

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.precision import state_zeros, widen
from core.parts.lengths import at_end
from core.units.contract import Unit
from core.units.diagonal.scanned import scanned


class MinUnit(Unit):
    """x (B, T, I), state (B, N) -> y (B, T, H), state (B, N); N = H * expansion.

    A subclass names its `gates`, linear layers of x, and computes z from them in `share`.
    """

    modes = ("step", "sequential", "scan")
    freezes = packs = True
    paper = "Feng et al. 2024, Were RNNs all we needed?, arXiv 2410.01201"
    gates: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        expansion: float = 1.0,
        projection: bool | None = None,
        positive: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        width = int(hidden_size * expansion) if 0 < expansion < float("inf") else 0
        if width < 1:
            raise ConfigError(f"expansion {expansion} of width {hidden_size} leaves no state")
        self.positive = positive
        for gate in self.gates:
            self.add_module(gate, nn.Linear(input_size, width, bias=bias))
        self.value = nn.Linear(input_size, width, bias=bias)
        projected = expansion != 1 if projection is None else projection
        self.out = nn.Linear(width, hidden_size, bias=False) if projected else None

    def share(self, *gates: Tensor) -> Tensor:
        """z from the gates before their sigmoids."""
        raise NotImplementedError

    @property
    def output_size(self) -> int:
        return self.value.out_features if self.out is None else self.hidden_size

    def initial_state(self, x: Tensor) -> Tensor:
        return state_zeros(x, x.shape[0], self.value.out_features)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and v for x (..., I)."""
        *gates, v = widen(*(getattr(self, gate)(x) for gate in self.gates), self.value(x))
        return self.share(*gates), above_zero(v) if self.positive else v

    def readout(self, h: Tensor, x: Tensor) -> Tensor:
        h = h.to(x.dtype)
        return h if self.out is None else self.out(h).to(x.dtype)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        z, v = self.terms(x)
        h = torch.lerp(state, v, z)
        return self.readout(h, x), h

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mode == "scan":
            return scanned(x, state, lengths, self.decays, self.readout)
        z, v = self.terms(x)
        h = interpolate(state, v, z)
        return self.readout(h, x), at_end(h, lengths, state)

    def decays(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decay and input of the recurrence, and x."""
        z, v = self.terms(x)
        return 1 - z, z * v, x


def interpolate(h: Tensor, v: Tensor, z: Tensor) -> Tensor:
    """h_t = h_{t-1} + z_t (v_t - h_{t-1}), one token after another: (B, N), (B, T, N) -> (B, T, N)."""
    rows = []
    for v_t, z_t in zip(v.unbind(1), z.unbind(1), strict=True):
        h = torch.lerp(h, v_t, z_t)
        rows.append(h)
    return torch.stack(rows, 1)


def above_zero(v: Tensor) -> Tensor:
    """g(v) of the log-space form: above zero, continuous, and the identity plus 1/2 on the right."""
    return torch.where(v >= 0, v + 0.5, v.sigmoid())
