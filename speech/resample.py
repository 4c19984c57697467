"""Change of rate inside a stream: a short linear-phase filter in polyphase form, exact in its delay.

    y_m = sum_k x_k h(m M / L - k)        h a Kaiser-windowed sinc, cut off at 0.925 of the lower half rate

Nothing is held back beyond half of the filter: 1.5 ms by default.
"""

from math import ceil, gcd
from typing import Any

import numpy as np

from core.kernels.jit import FAST_MATH, compiled

HALF_S = 0.0015
"""Half of the filter, seconds."""
SHARE = 0.925
"""Of half the lower rate, where the filter has fallen by 6 dB."""


@compiled(fastmath=FAST_MATH | {"reassoc"})  # a sum by vectors: its order is the same for every call
def filtered(x: Any, filters: Any, place: int, down: int, up: int, first: int, out: Any) -> None:
    """Outputs (C, m) of x (C, n), whose first sample is number `first`; `place` counts parts of `up`."""
    reach = filters.shape[1]
    for m in range(out.shape[1]):
        start = place // up - reach // 2 + 1 - first
        taps = filters[place % up]
        for c in range(out.shape[0]):
            total = np.float32(0)
            for k in range(reach):
                total += x[c, start + k] * taps[k]
            out[c, m] = total
        place += down


class Resampler:
    """A stream of (C, n) samples at one rate -> (C, m) at another; sample 0 stays at time 0."""

    def __init__(self, rate: int, wanted: int, channels: int = 1, half_s: float = HALF_S) -> None:
        divisor = gcd(rate, wanted)
        self.up, self.down = wanted // divisor, rate // divisor
        self.half = max(4, ceil(half_s * rate))
        self.filters = polyphase(rate, wanted, self.up, self.half)
        self.buffer = np.zeros((channels, self.half - 1), np.float32)
        self.first = -(self.half - 1)  # index of the buffer's first sample
        self.heard = 0
        self.made = 0

    def feed(self, x: np.ndarray) -> np.ndarray:
        """Take samples (C, n); gives the outputs that need nothing further."""
        self.heard += x.shape[1]
        self.buffer = np.concatenate([self.buffer, x], 1)
        # output m needs inputs up to floor(m M / L) + half
        known = self.heard - 1 - self.half
        return self.make((known + 1) * self.up // -self.down * -1 if known >= 0 else 0)

    def flush(self) -> np.ndarray:
        """What is left, with zeros behind the end; as many outputs in all as the length asks for."""
        total = -(-self.heard * self.up // self.down)
        self.buffer = np.pad(self.buffer, ((0, 0), (0, self.half + 1)))
        return self.make(total)

    def make(self, upto: int) -> np.ndarray:
        """Outputs from the next one to `upto`, left out."""
        made = np.empty((len(self.buffer), max(0, upto - self.made)), np.float32)
        if made.shape[1]:
            filtered(self.buffer, self.filters, self.made * self.down, self.down, self.up, self.first, made)
            self.made = upto
        keep = self.made * self.down // self.up - self.half + 1
        if keep > self.first:
            self.buffer = self.buffer[:, keep - self.first :]
            self.first = keep
        return made

    def state(self) -> dict[str, object]:
        """A plain value."""
        return {"buffer": self.buffer.copy(), "at": [self.first, self.heard, self.made]}

    def load_state(self, state: dict[str, object]) -> None:
        """Go on from a state of the same two rates."""
        self.buffer = np.array(state["buffer"], np.float32)
        self.first, self.heard, self.made = (int(number) for number in state["at"])  # pyright: ignore


def polyphase(rate: int, wanted: int, phases: int, half: int) -> np.ndarray:
    """Filters (phases, 2 half): phase p serves outputs that lie p / phases of a sample behind an input."""
    cut = SHARE * min(rate, wanted) / 2
    lag = np.arange(phases)[:, None] / phases - (np.arange(2 * half) - half + 1)
    window = np.i0(6.0 * np.sqrt(np.clip(1 - (lag / half) ** 2, 0, None))) / np.i0(6.0)
    filters = 2 * cut / rate * np.sinc(2 * cut / rate * lag) * window * (np.abs(lag) <= half)
    return (filters / filters.sum(1, keepdims=True)).astype(np.float32)
