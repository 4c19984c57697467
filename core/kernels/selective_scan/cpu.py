"""The selective scan on a CPU: fused over the state width, one compiled pass forward and one backward.

States lie as (N, D), channels innermost, in blocks of channels that stay in the first-level cache; exp is a
polynomial that vectorises. Forward keeps the state at every `EVERY`th token only; backward computes the
states of such a piece again before it walks through it from right to left. A state is handed over as
(B, D, N) but stays in memory as (B, N, D), so that the next call need not turn it. A step size far below
zero before its softplus is a step of exactly zero: the state stands still.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled, pool
from core.kernels.vector_math import exp, logistic, softplus

# sums over channels may be reordered; NaN and infinity keep their meaning
FAST_MATH = {"contract", "reassoc", "nsz"}
BLOCK = 128  # channels whose states (N, BLOCK) fit the first-level cache
EVERY = 16  # tokens between kept states
PARALLEL_FROM = 1 << 15  # numbers u below which starting a second thread costs more than it gives


@compiled(fastmath=FAST_MATH)
def forward_rows(u, delta, a_rate, b_in, c_out, h, y, marks, keep, first, last):  # noqa: ANN001, ANN201
    _, time, channels = u.shape
    states = a_rate.shape[0]
    groups = max(b_in.shape[2], c_out.shape[2])
    group = channels // groups
    step, drive = np.empty(BLOCK, u.dtype), np.empty(BLOCK, u.dtype)
    for b in range(first, last):
        bb, cb = min(b, b_in.shape[0] - 1), min(b, c_out.shape[0] - 1)
        for g in range(groups):
            bg, cg = g * b_in.shape[2] // groups, g * c_out.shape[2] // groups
            for left in range(g * group, (g + 1) * group, BLOCK):
                right = min(left + BLOCK, (g + 1) * group)
                for t in range(time):
                    bt, ct = min(t, b_in.shape[1] - 1), min(t, c_out.shape[1] - 1)
                    if keep and t % EVERY == 0:
                        marks[b, t // EVERY, :, left:right] = h[b, :, left:right]
                    u_t, delta_t, y_t = u[b, t, left:right], delta[b, t, left:right], y[b, t, left:right]
                    for d in range(right - left):
                        step[d] = softplus(delta_t[d])
                        drive[d] = step[d] * u_t[d]
                        y_t[d] = 0
                    for n in range(states):
                        rate, h_n = a_rate[n, left:right], h[b, n, left:right]
                        b_n, c_n = b_in[bb, bt, bg, n], c_out[cb, ct, cg, n]
                        for d in range(right - left):
                            value = exp(step[d] * rate[d]) * h_n[d] + b_n * drive[d]
                            h_n[d] = value
                            y_t[d] += (c_n * value).real


@compiled(fastmath=FAST_MATH)
def backward_rows(  # noqa: ANN201
    u, delta, a_rate, b_in, c_out, marks, gy, gh, du, ddelta, da, db, dc, first, last  # noqa: ANN001
):  # fmt: skip
    """gh comes in as the gradient of the final state and leaves as that of the initial one."""
    _, time, channels = u.shape
    states = a_rate.shape[0]
    groups = max(b_in.shape[2], c_out.shape[2])
    group = channels // groups
    decays = np.empty((EVERY, states, BLOCK), a_rate.dtype)
    values = np.empty((EVERY + 1, states, BLOCK), a_rate.dtype)
    steps = np.empty((EVERY, BLOCK), u.dtype)
    for b in range(first, last):
        bb, cb = min(b, b_in.shape[0] - 1), min(b, c_out.shape[0] - 1)
        for g in range(groups):
            bg, cg = g * b_in.shape[2] // groups, g * c_out.shape[2] // groups
            for left in range(g * group, (g + 1) * group, BLOCK):
                right = min(left + BLOCK, (g + 1) * group)
                width = right - left
                for piece in range(marks.shape[1] - 1, -1, -1):
                    start = piece * EVERY
                    stop = min(start + EVERY, time)
                    for n in range(states):
                        values[0, n, :width] = marks[b, piece, n, left:right]
                    for t in range(start, stop):
                        bt = min(t, b_in.shape[1] - 1)
                        u_t, delta_t, step = u[b, t, left:right], delta[b, t, left:right], steps[t - start]
                        for d in range(width):
                            step[d] = softplus(delta_t[d])
                        for n in range(states):
                            b_n, rate = b_in[bb, bt, bg, n], a_rate[n, left:right]
                            before, value = values[t - start, n, :width], values[t - start + 1, n, :width]
                            decay = decays[t - start, n, :width]
                            for d in range(width):
                                decay[d] = exp(step[d] * rate[d])
                                value[d] = decay[d] * before[d] + b_n * (step[d] * u_t[d])
                    for t in range(stop - 1, start - 1, -1):
                        bt, ct = min(t, b_in.shape[1] - 1), min(t, c_out.shape[1] - 1)
                        u_t, delta_t, gy_t = (
                            u[b, t, left:right],
                            delta[b, t, left:right],
                            gy[b, t, left:right],
                        )
                        step = steps[t - start]
                        du_t, ddelta_t = du[b, t, left:right], ddelta[b, t, left:right]
                        for d in range(width):
                            du_t[d] = 0
                            ddelta_t[d] = 0
                        for n in range(states):
                            rate, da_n, g_n = a_rate[n, left:right], da[n, left:right], gh[b, n, left:right]
                            before, value = values[t - start, n, :width], values[t - start + 1, n, :width]
                            decay = decays[t - start, n, :width]
                            b_n = b_in[bb, bt, bg, n].conjugate()
                            c_n = c_out[cb, ct, cg, n].conjugate()
                            db_n = db[bb, bt, bg, n] * 0
                            dc_n = db_n
                            for d in range(width):
                                dc_n += gy_t[d] * value[d].conjugate()
                                total = g_n[d] + c_n * gy_t[d]
                                db_n += total * (step[d] * u_t[d])
                                through = (total * b_n).real
                                exponent = total * (decay[d] * before[d]).conjugate()
                                da_n[d] += exponent * step[d]
                                # du holds dL/d(step u) until all n are summed
                                du_t[d] += through
                                ddelta_t[d] += (exponent * rate[d].conjugate()).real
                                g_n[d] = total * decay[d].conjugate()
                            db[bb, bt, bg, n] += db_n
                            dc[cb, ct, cg, n] += dc_n
                        for d in range(width):
                            ddelta_t[d] = (ddelta_t[d] + du_t[d] * u_t[d]) * logistic(delta_t[d])
                            du_t[d] *= step[d]


def update(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y (B, D) and the next state (B, D, N) for B and C (B, G, N); real numbers."""
    h = state.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    y = torch.empty(u.shape, dtype=u.dtype)
    tokens = [array(part)[:, None] for part in (u, delta, B, C, y)]
    none = np.empty((0, 0, 0, 0), tokens[0].dtype)
    forward_rows(*tokens[:2], array(A.t()), *tokens[2:4], array(h), tokens[4], none, False, 0, len(h))
    return y, h.transpose(1, 2)


def forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, T, D), final state (B, D, N) and, if kept, the states (B, pieces, N, D) where backward starts.

    B and C are (B, T, G, N), with 1 in place of batch and time where they are constant.
    """
    batch, time, channels = u.shape
    h = state.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    y = torch.empty(u.shape, dtype=u.dtype)
    pieces = -(-time // EVERY) if keep else 0
    marks = torch.empty(batch, pieces, A.shape[1], channels, dtype=A.dtype)
    arrays = [array(part) for part in (u, delta, A.t(), B, C, h, y, marks)]
    share(partial(forward_rows, *arrays, keep), u.shape)
    return y, h.transpose(1, 2), marks


def backward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, marks: Tensor, gy: Tensor, gh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C and the initial state from those of y and of the final state."""
    du, ddelta = torch.empty(u.shape, dtype=u.dtype), torch.empty(u.shape, dtype=u.dtype)
    gh = gh.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    inputs = [array(part) for part in (u, delta, A.t(), B, C, marks, gy, gh, du, ddelta)]

    def rows(first: int, last: int) -> list[Tensor]:
        # what rows share is summed apart for each thread
        own = [torch.zeros(part.shape, dtype=part.dtype) for part in (A.t(), B, C)]
        backward_rows(*inputs, *(array(part) for part in own), first, last)
        return own

    da, db, dc = (reduce(torch.add, parts) for parts in zip(*share(rows, u.shape), strict=True))
    return du, ddelta, da.t().contiguous(), db, dc, gh.transpose(1, 2)


def array(part: Tensor) -> Any:
    return part.detach().resolve_conj().resolve_neg().contiguous().numpy()


def share(rows: Callable[[int, int], Any], shape: torch.Size) -> list[Any]:
    """Results of `rows(first, last)` over the batch, cut over torch's threads when there is enough to do."""
    batch = shape[0]
    threads = min(torch.get_num_threads(), batch)
    if threads <= 1 or shape.numel() < PARALLEL_FROM:
        return [rows(0, batch)]
    cuts = [batch * i // threads for i in range(threads + 1)]
    return list(pool(threads).map(rows, cuts[:-1], cuts[1:]))
