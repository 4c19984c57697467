"""Depthwise convolution along time of (B, S, D), features last: compiled where no gradient is wanted.

Published layouts give torch (B, D, S), whose transposes cost several times the convolution itself. Here some
frames of all features stay in the cache, and eight frames at once share what is read of the taps.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.choice import recording
from core.kernels.jit import compiled, pool
from speech.models.vectors import LANES, ROWS, add_taps

TILE = 64
"""Frames of a block."""


@compiled
def padded(width):  # noqa: ANN001, ANN201
    """Numbers of a row in the cache: whole vectors and one more, so that rows lie in different sets of it."""
    return (width + LANES - 1) // LANES * LANES + LANES


@compiled
def wide(taps):  # noqa: ANN001, ANN201
    """Taps (K, D) in padded rows."""
    count, width = taps.shape
    out = np.zeros((count, padded(width)), np.float32)
    out[:, :width] = taps
    return out


@compiled
def eight(out, o, ow, start, e, ew, held, row, taps, dilation, width):  # noqa: ANN001, ANN201
    """ROWS rows of out, ow apart from o on, `width` features: start + sum_k taps[k] held[row + k dilation].
    held and taps in padded rows."""
    lanes = held.shape[1]
    x, step = row * lanes, dilation * lanes
    for c in range(0, width, LANES):
        add_taps(out, o + c, ow, start, e + c, ew, held, x + c, lanes, step, taps, c, lanes, len(taps))


@compiled
def convolve(held, taps, dilation, rows, start, each, out, s, t):  # noqa: ANN001, ANN201
    """out[s + r, t] = start[s + r, t] + sum_k taps[k] held[r + k dilation] for r below `rows`; out and start
    (S, T, D), without `each` start is (1, 1, D) for all. held and taps in padded rows."""
    lanes, count, width = held.shape[1], out.shape[1], out.shape[2]
    ow, o = count * width, (s * count + t) * width
    ew, e = (ow, o) if each else (0, 0)
    edge = np.zeros((ROWS, lanes if rows % ROWS or width % LANES else 0), np.float32)
    for r in range(0, rows, ROWS):
        few = min(ROWS, rows - r)
        if few == ROWS and width % LANES == 0:
            eight(out, o + r * ow, ow, start, e + r * ew, ew, held, r, taps, dilation, width)
            continue
        for q in range(few):
            source = start[s + r + q, t] if each else start[0, 0]
            into = edge[q]
            for d in range(width):
                into[d] = source[d]
        eight(edge, 0, lanes, edge, 0, lanes, held, r, taps, dilation, lanes - LANES)
        for q in range(few):
            source, into = edge[q], out[s + r + q, t]
            for d in range(width):
                into[d] = source[d]


@compiled
def run(x, taps, before, dilation, low, high, first, last, out):  # noqa: ANN001, ANN201
    """out += sum_k taps (K, D)[k] x[s + k dilation - before], x and out (S, T, D), zeros beyond the ends: for
    frames low..high of rows first..last."""
    frames, _, width = x.shape
    reach = (len(taps) - 1) * dilation
    held = np.zeros((TILE + reach + ROWS, padded(width)), np.float32)
    part = wide(taps)
    for t in range(first, last):
        for start in range(low, high, TILE):
            rows = min(high, start + TILE) - start
            for r in range(rows + reach):
                into, s = held[r], start - before + r
                if 0 <= s < frames:
                    source = x[s, t]
                    for d in range(width):
                        into[d] = source[d]
                else:
                    into[:] = 0
            convolve(held, part, dilation, rows, out, True, out, start, t)


def add_along(x: Any, taps: Any, before: int, dilation: int, out: Any) -> None:
    """out += convolution of x with taps (K, D), along the first axis of (S, D) or of (S, T, D); arrays."""
    rows = x.reshape(len(x), -1, x.shape[-1])
    frames, count, _ = rows.shape
    into = out.reshape(rows.shape)
    if count == 1:
        spread(lambda low, high: run(rows, taps, before, dilation, low, high, 0, 1, into), frames)
    else:
        spread(lambda low, high: run(rows, taps, before, dilation, 0, frames, low, high, into), count, 1)


def spread(work: Callable[[int, int], Any], frames: int, least: int = TILE) -> None:
    """Call work(low, high) for all frames, on as many threads as torch uses, `least` frames in each."""
    threads = max(1, min(torch.get_num_threads(), frames // least))
    if threads == 1:
        work(0, frames)
        return
    edges = [frames * k // threads for k in range(threads + 1)]
    for done in [pool(threads).submit(work, low, high) for low, high in pairwise(edges)]:
        done.result()


def compiled_here(x: Tensor) -> bool:
    """Whether the compiled loop may be used: float32 on a CPU, no gradient wanted, no graph recorded."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not recording()


def array(x: Tensor) -> Any:
    """The numbers of a tensor, features last."""
    return x.detach().contiguous().numpy()


def taps_of(weight: Tensor) -> Any:
    """Taps (K, D) of a convolution's weight (D, 1, K)."""
    return np.ascontiguousarray(weight.detach().numpy()[:, 0].T)


def add_depthwise(
    x: Tensor, weight: Tensor, before: int, start: Tensor | None = None, *, dilation: int = 1
) -> Tensor:
    """start + convolution of x (B, S, D) with weight (D, 1, K), which begins `before` frames in the past."""
    source, taps = array(x), taps_of(weight)
    out = torch.zeros_like(x) if start is None else start.clone(memory_format=torch.contiguous_format)
    for row, into in zip(source, out.numpy(), strict=True):
        add_along(row, taps, before, dilation, into)
    return out
