"""What lies between the products of MossFormer2 in one pass each, where no gradient is wanted on a CPU.

Torch reads and writes (S, 2048) numbers of every layer for each of some ten small operators, which costs more
than the products do. Here a block of features stays in the cache from one operator to the next.
"""

from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled, pool
from core.kernels.vector_math import sigmoid32

BLOCK = 512
"""Features of frames that are worked at once."""
TILE = 96
"""Frames of a block; a few more at either side are made twice."""


@compiled
def normed(x, scale, eps, out):  # noqa: ANN001, ANN201
    """Rows of x (S, D) / max(scale |x|, eps)."""
    frames, width = x.shape
    for s in range(frames):
        row, into = x[s], out[s]
        total = np.float32(0)
        for d in range(width):
            total += row[d] * row[d]
        factor = np.float32(1.0 / max(scale * sqrt(total), eps))
        for d in range(width):
            into[d] = row[d] * factor


@compiled
def silu_depthwise_part(z, bias, taps, before, low, high, out):  # noqa: ANN001, ANN201
    """Frames low..high of out = y + sum_k taps (K, D)[k] y[s + k - before], y = silu(z + bias), z (S, D)."""
    frames, width = z.shape
    count = len(taps)
    held = np.empty((TILE + count, BLOCK), np.float32)
    for left in range(0, width, BLOCK):
        right = min(width, left + BLOCK)
        size = right - left
        shift = bias[left:right]
        for start in range(low, high, TILE):
            end = min(high, start + TILE)
            first, last = max(0, start - before), min(frames, end + count - 1 - before)
            for s in range(first, last):
                source, into = z[s, left:right], held[s - first]
                for d in range(size):
                    v = source[d] + shift[d]
                    into[d] = v * sigmoid32(v)
            for s in range(start, end):
                target, own = out[s, left:right], held[s - first]
                for d in range(size):
                    target[d] = own[d]
                for k in range(max(0, before - s), min(count, frames + before - s)):
                    source, tap = held[s + k - before - first], taps[k, left:right]
                    for d in range(size):
                        target[d] += tap[d] * source[d]


@compiled
def gated_part(a, h, low, high, out):  # noqa: ANN001, ANN201
    """Frames low..high of out = (a_u v) sigmoid(a_v u), a = [a_v, a_u] and h = [v, u] (S, 2 D) each."""
    width = out.shape[1]
    for s in range(low, high):
        av, au, v, u, into = a[s, :width], a[s, width:], h[s, :width], h[s, width:], out[s]
        for d in range(width):
            into[d] = av[d] * u[d]
        for d in range(width):
            into[d] = sigmoid32(into[d])
        for d in range(width):
            into[d] *= au[d] * v[d]


@compiled
def turned_part(x, gamma, beta, cosine, sine, low, high, out):  # noqa: ANN001, ANN201
    """x (S, D) gamma + beta for each head, its first features turned in pairs: out (heads, S, D)."""
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


def spread(work: Callable[[int, int], Any], frames: int) -> None:
    """Call work(low, high) for all frames, on as many threads as torch uses."""
    threads = max(1, min(torch.get_num_threads(), frames // TILE))
    if threads == 1:
        work(0, frames)
        return
    edges = [frames * k // threads for k in range(threads + 1)]
    for done in [pool(threads).submit(work, low, high) for low, high in pairwise(edges)]:
        done.result()


def array(x: Tensor) -> Any:
    """The numbers of a tensor, features last."""
    return x.detach().contiguous().numpy()


def scale_norm(x: Tensor, scale: float, eps: float) -> Tensor:
    """x (..., D) / max(scale |x|, eps)."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    width = x.shape[-1]
    normed(array(x).reshape(-1, width), scale, eps, out.numpy().reshape(-1, width))
    return out


def silu_depthwise(z: Tensor, bias: Tensor, weight: Tensor, before: int) -> Tensor:
    """y + depthwise convolution of y = silu(z + bias): z (B, S, D), weight (D, 1, K)."""
    out = torch.empty_like(z, memory_format=torch.contiguous_format)
    taps = np.ascontiguousarray(weight.detach().numpy()[:, 0].T)
    shift = array(bias)
    for row, into in zip(array(z), out.numpy(), strict=True):
        spread(
            lambda low, high, row=row, into=into: silu_depthwise_part(
                row, shift, taps, before, low, high, into
            ),
            len(row),
        )
    return out


def gated_values(a: Tensor, h: Tensor) -> Tensor:
    """(a_u v) sigmoid(a_v u): a = [a_v, a_u], h = [v, u], (B, S, 2 D) each -> (B, S, D)."""
    out = a.new_empty(*a.shape[:-1], a.shape[-1] // 2)
    for one, two, into in zip(array(a), array(h), out.numpy(), strict=True):
        spread(lambda low, high, one=one, two=two, into=into: gated_part(one, two, low, high, into), len(one))
    return out


def turned_heads(x: Tensor, gamma: Tensor, beta: Tensor, freqs: Tensor, frames: int) -> Tensor:
    """Heads of queries and keys (B, heads, frames, D) from x (B, S, D); zeros from S on."""
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * freqs
    cosine, sine = array(angle.cos()), array(angle.sin())
    out = x.new_zeros(len(x), len(gamma), frames, x.shape[2])
    g, b = array(gamma), array(beta)
    for row, into in zip(array(x), out.numpy(), strict=True):
        spread(
            lambda low, high, row=row, into=into: turned_part(row, g, b, cosine, sine, low, high, into),
            len(row),
        )
    return out
