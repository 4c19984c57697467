"""QRNN, quasi-recurrent network (Bradbury et al. 2016, arXiv 1611.01576).

    z_t = tanh(W_z [x_{t-k+1}; ...; x_t])          f_t, o_t, i_t = sigmoid(...) likewise: a causal convolution

    f    h_t = f_t * h_{t-1} + (1 - f_t) * z_t      y_t = h_t
    fo   c_t = f_t * c_{t-1} + (1 - f_t) * z_t      y_t = o_t * c_t
    ifo  c_t = f_t * c_{t-1} + i_t * z_t            y_t = o_t * c_t

The state holds the last k - 1 inputs beside c.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.linear_scan import linear_scan_ref
from core.kernels.precision import state_zeros, widen
from core.parts.lengths import at_end, window_at_end
from core.parts.memory import Tokens, keep_logit, time_constants
from core.parts.options import one_of, sizes
from core.units.contract import Unit
from core.units.diagonal.scanned import scanned

GATES = {"f": 1, "fo": 2, "ifo": 3}


class QRNN(Unit):
    """x (B, T, I), state (last inputs (B, k-1, I), c (B, H)) -> y (B, T, H), state.

    Args:
        window: k, tokens that the gates see.
        pooling: the gates there are, "f", "fo" or "ifo".
    """

    modes = ("step", "sequential", "scan")
    freezes = packs = True
    paper = "Bradbury et al. 2016, Quasi-recurrent neural networks, arXiv 1611.01576"

    def __init__(self, input_size: int, hidden_size: int, *, window: int = 2, pooling: str = "fo") -> None:
        super().__init__(input_size, hidden_size)
        one_of("a QRNN", "pooling", pooling, tuple(GATES))
        sizes("QRNN", window=window)
        self.window, self.pooling = window, pooling
        # rows z, f, o, i; columns from the oldest token of the window to the newest
        self.taps = nn.Linear(window * input_size, (1 + GATES[pooling]) * hidden_size)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        H = self.hidden_size
        self.taps.bias[H : 2 * H] = keep_logit(time_constants("a QRNN", H, tokens))

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tail = x.new_zeros(x.shape[0], self.window - 1, self.input_size)
        return tail, state_zeros(x, x.shape[0], self.hidden_size)

    def terms(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decay, input and output gate of the recurrence for windows (..., k * I): (..., H) each."""
        (packed,) = widen(F.linear(windows, self.taps.weight, self.taps.bias))
        z, f, *rest = packed.chunk(1 + GATES[self.pooling], -1)
        f = f.sigmoid()
        i = rest[1].sigmoid() if self.pooling == "ifo" else 1 - f
        return f, i * z.tanh(), rest[0].sigmoid() if rest else None

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        tail, c = state
        seen = torch.cat([tail, x[:, None]], 1)
        f, inputs, o = self.terms(seen.flatten(1))
        c = f * c + inputs
        return (c if o is None else o * c).to(x.dtype), (seen[:, 1:], c)

    def run(
        self, x: Tensor, state: tuple[Tensor, Tensor], mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        tail, c = state
        time = x.shape[1]
        seen = torch.cat([tail, x], 1)
        windows = torch.cat([seen[:, lag : lag + time] for lag in range(self.window)], -1)
        tail = window_at_end(seen, self.window - 1, lengths)

        def readout(c: Tensor, o: Tensor | None) -> Tensor:
            return (c if o is None else o * c).to(x.dtype)

        if mode == "scan":
            y, c = scanned(windows, c, lengths, self.terms, readout)
            return y, (tail, c)
        f, inputs, o = self.terms(windows)
        states = linear_scan_ref(f, inputs, c)
        return readout(states, o), (tail, at_end(states, lengths, c))
