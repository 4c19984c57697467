"""What lies between the products of MossFormer2 in one pass each, where no gradient is wanted on a CPU.

Torch reads and writes (S, 2048) numbers of every layer for each of some ten small operators, which costs more
than the products do. Here a row, or a block of features, stays in the cache from one operator to the next.
All arrays are float32 and contiguous, (S, D) unless said otherwise; low and high bound the frames of a call.
"""

from math import sqrt

import numpy as np
from torch import Tensor

from core.kernels.jit import FAST_MATH, compiled
from core.kernels.vector_math import sigmoid32
from speech.models.depthwise import TILE, array, convolve, padded, spread, wide
from speech.models.vectors import LANES, ROWS, gate_row, silu_row

SUMS = FAST_MATH | {"reassoc"}
"""Sums of a row in as many parts as a vector has."""


@compiled(fastmath=SUMS)
def energy(row):  # noqa: ANN001, ANN201
    """Sum of squares."""
    total = np.float32(0)
    for d in range(row.size):
        total += row[d] * row[d]
    return total


@compiled(fastmath=SUMS)
def standing(row, eps):  # noqa: ANN001, ANN201
    """Mean and one over the standard deviation."""
    total = np.float32(0)
    for d in range(row.size):
        total += row[d]
    mean = np.float32(total / row.size)
    total = np.float32(0)
    for d in range(row.size):
        total += (row[d] - mean) * (row[d] - mean)
    return mean, np.float32(1 / sqrt(total / row.size + eps))


@compiled
def shifted_norm(x, scale, eps, low, high, out):  # noqa: ANN001, ANN201
    """y / max(scale |y|, eps) of y, whose first half of features is that of the frame before."""
    width = x.shape[1]
    half = (width + 1) // 2
    for s in range(low, high):
        into, late, own = out[s], x[s - 1 if s else 0], x[s]
        for d in range(half):
            into[d] = late[d]
        if s == 0:
            into[:half] = 0
        for d in range(half, width):
            into[d] = own[d]
        factor = np.float32(1 / max(scale * sqrt(energy(into)), eps))
        for d in range(width):
            into[d] *= factor


@compiled
def silu_depthwise(z, gain, bias, taps, before, extra, each, low, high, out):  # noqa: ANN001, ANN201
    """extra + sum_k taps (K, D)[k] y[s + k - before] of y = silu(gain z + bias); z, extra and out (S, 1, D),
    extra one row for all without `each`."""
    frames, _, width = z.shape
    reach = len(taps) - 1
    lanes = padded(width)
    held = np.zeros((TILE + reach + ROWS, lanes), np.float32)
    part = wide(taps)
    for start in range(low, high, TILE):
        rows = min(high, start + TILE) - start
        known = 0
        if start > low:  # the last frames of the tile before, which have been worked already
            known = reach
            for r in range(reach):
                held[r] = held[TILE + r]
        for r in range(known, rows + reach):
            into, s = held[r], start - before + r
            if 0 <= s < frames:
                silu_row(z, s * width, gain, bias, held, r * lanes, width)
                source = z[s, 0]
                for d in range(width // LANES * LANES, width):
                    v = gain * source[d] + bias[d]
                    into[d] = v * sigmoid32(v)
            else:
                into[:] = 0
        convolve(held, part, 1, rows, extra, each, out, start, 0)


@compiled
def turned(x, gamma, beta, cosine, sine, low, high, out):  # noqa: ANN001, ANN201
    """x gamma + beta for each head, its first features turned in pairs: out (heads, S, D)."""
    width, pairs = x.shape[1], cosine.shape[1]
    for head in range(len(gamma)):
        for s in range(low, high):
            row, into = x[s], out[head, s]
            for d in range(width):
                into[d] = row[d] * gamma[head, d] + beta[head, d]
            for p in range(pairs):
                a, b = into[2 * p], into[2 * p + 1]
                into[2 * p] = a * cosine[s, p] - b * sine[s, p]
                into[2 * p + 1] = b * cosine[s, p] + a * sine[s, p]


@compiled
def squared(weights, scale, low, high):  # noqa: ANN001, ANN201
    """relu(scale w)^2 in place."""
    for s in range(low, high):
        row = weights[s]
        for d in range(row.size):
            w = max(row[d], np.float32(0)) * scale
            row[d] = w * w


@compiled
def gated_norm(a, h, scale, eps, low, high, out):  # noqa: ANN001, ANN201
    """o / max(scale |o|, eps) of o = (a_u v) sigmoid(a_v u); a = [a_v, a_u] and h = [v, u], (S, 2 D) each."""
    width = out.shape[1]
    for s in range(low, high):
        av, au, v, u, into = a[s, :width], a[s, width:], h[s, :width], h[s, width:], out[s]
        gate_row(a, h, 2 * s * width, 2 * s * width, width, out, s * width)
        for d in range(width // LANES * LANES, width):
            into[d] = au[d] * v[d] * sigmoid32(av[d] * u[d])
        factor = np.float32(1 / max(scale * sqrt(energy(into)), eps))
        for d in range(width):
            into[d] *= factor


@compiled
def entered(z, bias, slope, gain, shift, eps, eps_inside, low, high, c, normed):  # noqa: ANN001, ANN201
    """c = gain norm(prelu(z + bias)) + shift, and norm(c)."""
    width = z.shape[1]
    for s in range(low, high):
        source, into, inside = z[s], c[s], normed[s]
        for d in range(width):
            v = source[d] + bias[d]
            into[d] = v if v > 0 else v * slope
        mean, factor = standing(into, eps)
        for d in range(width):
            into[d] = (into[d] - mean) * factor * gain[d] + shift[d]
        mean, factor = standing(into, eps_inside)
        for d in range(width):
            inside[d] = (into[d] - mean) * factor


@compiled
def added(z, x, bias, low, high):  # noqa: ANN001, ANN201
    """z += x + bias."""
    for s in range(low, high):
        row, more = z[s], x[s]
        for d in range(row.size):
            row[d] += more[d] + bias[d]


@compiled
def kept_positive(x, bias, low, high):  # noqa: ANN001, ANN201
    """x (S, D) = relu(x + bias) in place."""
    for s in range(low, high):
        row = x[s]
        for d in range(row.size):
            v = row[d] + bias[d]
            row[d] = np.float32(0) if v < 0 else v


@compiled
def columns(y, mean, spread):  # noqa: ANN001, ANN201
    """Mean and variance of every feature over all frames, float64 (D,) each, which are zeros before."""
    frames, width = y.shape
    for s in range(frames):
        row = y[s]
        for d in range(width):
            mean[d] += row[d]
    for d in range(width):
        mean[d] /= frames
    for s in range(frames):
        row = y[s]
        for d in range(width):
            spread[d] += (row[d] - mean[d]) * (row[d] - mean[d])
    for d in range(width):
        spread[d] /= frames


@compiled
def dealt(y, scale, shift, slope, p, low, high, even, odd):  # noqa: ANN001, ANN201
    """Features of [prelu(scale y + shift), p], the even and the odd ones apart, (S, D) each."""
    width = y.shape[1]
    both = np.empty(2 * width, np.float32)
    for s in range(low, high):
        row, other, first, second = y[s], p[s], even[s], odd[s]
        for d in range(width):
            v = row[d] * scale[d] + shift[d]
            both[d] = v if v > 0 else v * slope[d]
        for d in range(width):
            both[width + d] = other[d]
        for d in range(width):
            first[d], second[d] = both[2 * d], both[2 * d + 1]


@compiled
def left(h, y, scale, shift, slope, c, gain, bias, eps, low, high, out):  # noqa: ANN001, ANN201
    """gain norm(v (u + prelu(scale y + shift)) + c) + bias, h = [u, v] (S, 2 D)."""
    width = out.shape[1]
    for s in range(low, high):
        u, v, row, own, into = h[s, :width], h[s, width:], y[s], c[s], out[s]
        for d in range(width):
            t = row[d] * scale[d] + shift[d]
            into[d] = t if t > 0 else t * slope[d]
        for d in range(width):
            into[d] = (into[d] + u[d]) * v[d] + own[d]
        mean, factor = standing(into, eps)
        for d in range(width):
            into[d] = (into[d] - mean) * factor * gain[d] + bias[d]


def positive(z: Tensor, bias: Tensor) -> Tensor:
    """relu(z + bias) in place, z (S, D) as a product gave it."""
    rows, shift = z.numpy(), array(bias)
    spread(lambda low, high: kept_positive(rows, shift, low, high), len(rows))
    return z
