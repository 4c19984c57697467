"""The enhancement network on one frame, compiled: what a live stream calls some sixty times a second.

The same numbers as `EnhanceNet.filter` to rounding. Torch pays for each of some hundred small operators of a
frame; here a frame is one call. Only the plain LSTM of the bundled weights is compiled; other networks and
batches of channels go through torch.
"""

from math import log10, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.kernels.jit import compiled
from core.kernels.vector_math import sigmoid32, tanh32
from core.streaming.lstm import lstm_cell, lstm_step, lstm_weights
from core.streaming.products import add_product, add_products, array, linear, row_product
from speech.models.enhance import FLOOR_RATE, LEVEL_RATE, EnhanceNet
from speech.models.recurrence import Recurrence


@compiled
def normed(x: Any, gain: Any, shift: Any, out: Any) -> None:
    """LayerNorm of a row."""
    mean = np.float32(0)
    for j in range(x.shape[0]):
        mean += x[j]
    mean /= x.shape[0]
    spread = np.float32(0)
    for j in range(x.shape[0]):
        spread += (x[j] - mean) * (x[j] - mean)
    scale = np.float32(1 / sqrt(spread / x.shape[0] + 1e-5))
    for j in range(x.shape[0]):
        out[j] = (x[j] - mean) * scale * gain[j] + shift[j]


@compiled
def across(x: Any, gain: Any, shift: Any, w: Any, u: Any, b: Any, wo: Any, bo: Any) -> None:
    """x (K, C) + W BiLSTM(norm x) along the bands, in place; w (2, C, 4 H), u (2, H, 4 H), b (2, 4 H)."""
    K, C = x.shape
    H = u.shape[1]
    n = np.empty((K, C), np.float32)
    y = np.empty((K, 2 * H), np.float32)
    gates = np.empty((K, 4 * H), np.float32)
    for k in range(K):
        normed(x[k], gain, shift, n[k])
    for d in range(2):
        h, c = np.zeros(H, np.float32), np.zeros(H, np.float32)
        row_product(n, w[d], b[d], gates)
        for t in range(K):
            k = K - 1 - t if d else t
            add_product(h, u[d], gates[k])
            lstm_cell(gates[k], h, c)
            y[k, d * H : (d + 1) * H] = h
    for k in range(K):
        x[k] += bo
    add_products(y, wo, x)


@compiled
def over(x: Any, gain: Any, shift: Any, w: Any, u: Any, b: Any, wo: Any, bo: Any, h: Any, c: Any) -> None:
    """x (K, C) + W LSTM(norm x) one step in time for every band, in place; h, c (K, H)."""
    K, C = x.shape
    n = np.empty((K, C), np.float32)
    gates = np.empty((K, b.shape[0]), np.float32)
    for k in range(K):
        normed(x[k], gain, shift, n[k])
    row_product(n, w, b, gates)
    add_products(h, u, gates)
    for k in range(K):
        lstm_cell(gates[k], h[k], c[k])
        x[k] += bo
    add_products(h, wo, x)


@compiled
def encoded(found: Any, starts: Any, w: Any, b: Any) -> Any:
    """Four numbers a bin (F, 4), bins of band k from starts[k] on, w (K, 4 widest, C) -> bands (K, C)."""
    x = b.copy()
    flat = found.reshape(-1)
    for k in range(x.shape[0]):
        low, high = 4 * starts[k], 4 * starts[k + 1]
        add_product(flat[low:high], w[k, : high - low], x[k])
    return x


@compiled
def decoded(x: Any, hidden: Any, shift: Any, w: Any, b: Any) -> Any:
    """Bands (K, D), hidden (D, E), w (K, E, taps) -> silu(x hidden + shift) w + b, (K, taps)."""
    y = np.empty((x.shape[0], shift.shape[0]), np.float32)
    row_product(x, hidden, shift, y)
    taps = b.copy()
    for k in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[k, j] *= sigmoid32(y[k, j])
        add_product(y[k], w[k], taps[k])
    return taps


@compiled
def features(y: Any, level: Any, floor: Any, weights: Any, rates: Any, out: Any) -> None:
    """Spectrum (F, 2), running means in place -> four numbers a bin (F, 4)."""
    F = y.shape[0]
    power = np.float32(0)
    for f in range(F):
        power += y[f, 0] * y[f, 0] + y[f, 1] * y[f, 1]
    level[0] += rates[0] * (power / F - level[0])
    weights[0] += rates[0] * (1 - weights[0])
    weights[1] += rates[1] * (1 - weights[1])
    size = np.float32(sqrt(level[0] / weights[0] + 1e-14))
    for f in range(F):
        square = y[f, 0] * y[f, 0] + y[f, 1] * y[f, 1]
        relative = np.float32(sqrt(square + 1e-20)) / size
        log = np.float32(log10(relative + np.float32(1e-3)))
        floor[f] += rates[1] * (log - floor[f])
        scale = np.float32((relative + np.float32(1e-3)) ** np.float32(-0.7)) / size
        out[f, 0] = log
        out[f, 1] = log - floor[f] / weights[1]
        out[f, 2] = y[f, 0] * scale
        out[f, 3] = y[f, 1] * scale


@compiled
def weigh(taps: Any, starts: Any, past: Any, y: Any, out: Any) -> None:
    """Taps (K, widest P) on a spectrum (F, 2) and its past (taps - 1, F, 2), which moves on."""
    F, back = y.shape[0], past.shape[0]
    P = 2 * (back + 1)
    k = 0
    for f in range(F):
        if f >= starts[k + 1]:
            k += 1
        place = (f - starts[k]) * P
        real, imaginary = np.float32(0), np.float32(0)
        for t in range(back + 1):
            a = 2 * tanh32(taps[k, place + 2 * t] / 2)
            b = 2 * tanh32(taps[k, place + 2 * t + 1] / 2)
            u = y[f, 0] if t == 0 else past[back - t, f, 0]
            v = y[f, 1] if t == 0 else past[back - t, f, 1]
            real += a * u - b * v
            imaginary += a * v + b * u
        out[f, 0] = real
        out[f, 1] = imaginary
    for t in range(back - 1):
        past[t] = past[t + 1]
    if back:
        past[back - 1] = y


class Quick:
    """A compiled copy of a network's weights. `bind` a state, then `frames` change it in place."""

    def __init__(self, network: EnhanceNet) -> None:
        bands = network.bands
        where = bands.where.numpy() // bands.widest
        self.starts = np.append(np.searchsorted(where, np.arange(bands.count)), len(where)).astype(np.int64)
        self.encode = array(network.encode.weight), array(network.encode.bias)
        self.across = [across_weights(block) for block in (*network.across, network.last)]
        self.over = [over_weights(block) for block in network.over]
        self.share = linear(network.share)
        self.whole = [lstm_weights(unit) for part in network.whole for unit in part.units]  # pyright: ignore
        self.spread = linear(network.spread)
        self.hidden = linear(network.hidden)
        self.decode = array(network.decode.weight), array(network.decode.bias)
        self.rates = np.array([LEVEL_RATE, FLOOR_RATE], np.float32)

    def bind(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state of the network for one row as arrays of its own."""
        return {
            "level": own(state["level"][0])[0],
            "floor": own(state["floor"][0])[0],
            "weights": np.array([float(state[name][1]) for name in ("level", "floor")], np.float32),
            "over": [(own(h), own(c)) for ((h, c),) in state["over"]],
            "whole": [(own(h)[0], own(c)[0]) for ((h, c),) in state["whole"]],
            "past": own(state["past"])[0],
        }

    def unbind(self, bound: dict[str, Any]) -> dict[str, Any]:
        """The same as the network's own state."""
        weights = torch.from_numpy(bound["weights"].copy())

        def row(part: np.ndarray) -> Tensor:
            return torch.from_numpy(part.copy())[None]

        return {
            "level": (row(bound["level"]), weights[0].view(1, 1)),
            "floor": (row(bound["floor"]), weights[1].view(1, 1)),
            "over": tuple(((row(h)[0], row(c)[0]),) for h, c in bound["over"]),
            "whole": tuple(((row(h), row(c)),) for h, c in bound["whole"]),
            "past": row(bound["past"]),
        }

    def frames(self, spectra: Tensor, bound: dict[str, Any]) -> Tensor:
        """Spectra (1, T, F) -> clean ones; the bound state moves on."""
        pairs = torch.view_as_real(spectra.resolve_conj())[0].numpy()
        clean = np.empty_like(pairs)
        for y, out in zip(pairs, clean, strict=True):
            self.frame(np.ascontiguousarray(y), bound, out)
        return torch.view_as_complex(torch.from_numpy(clean))[None]

    def frame(self, y: np.ndarray, bound: dict[str, Any], out: np.ndarray) -> None:
        """One spectrum (F, 2) -> out (F, 2)."""
        found = np.zeros((len(y), 4), np.float32)
        features(y, bound["level"], bound["floor"], bound["weights"], self.rates, found)
        x = encoded(found, self.starts, *self.encode)
        for first, second, (h, c) in zip(self.across, self.over, bound["over"], strict=False):
            across(x, *first)
            over(x, *second, h, c)
        shared = np.empty((len(x), len(self.share[1])), np.float32)
        row_product(x, *self.share, shared)
        (h1, c1), (h2, c2) = bound["whole"]
        lstm_step(shared.reshape(-1), *self.whole[0], h1, c1)
        lstm_step(h1, *self.whole[1], h2, c2)
        together = self.spread[1].copy()
        add_product(h1 + h2, self.spread[0], together)
        x = np.concatenate([x, together.reshape(len(x), -1)], 1)
        across(x, *self.across[-1])
        taps = decoded(x, *self.hidden, *self.decode)
        weigh(taps, self.starts, bound["past"], y, out)


def quick_of(network: nn.Module, rows: int) -> Quick | None:
    """The compiled form, where there is one: the plain LSTM, one row, on a CPU in float32."""
    if not isinstance(network, EnhanceNet) or rows != 1:
        return None
    weight = network.encode.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    units = [unit for part in network.modules() if isinstance(part, Recurrence) for unit in part.units]
    return Quick(network) if all(getattr(unit, "library", None) == "lstm" for unit in units) else None


def own(part: Tensor) -> np.ndarray:
    """A copy as a contiguous array."""
    return np.array(part.detach().numpy(), np.float32, order="C")


def across_weights(block: Any) -> tuple[np.ndarray, ...]:
    """What `across` takes after x."""
    both = [lstm_weights(unit) for unit in block.recurrence.units]
    stacked = [np.stack(parts) for parts in zip(*both, strict=True)]
    return array(block.norm.weight), array(block.norm.bias), *stacked, *linear(block.out)


def over_weights(block: Any) -> tuple[np.ndarray, ...]:
    """What `over` takes between x and the state."""
    return (
        array(block.norm.weight),
        array(block.norm.bias),
        *lstm_weights(block.recurrence.units[0]),
        *linear(block.out),
    )
