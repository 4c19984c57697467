"""Compiled loops of the LSTM cell and its variants (equations: `core.units.gated.lstm`).

Gates that a variant lacks take no room; `order` says where i, f, g and o lie among those it has.
"""

from functools import cache
from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, multiply
from core.kernels.vector_math import (
    add_row,
    add_scaled_row,
    compiled,
    sigmoid_gradient_row,
    sigmoid_row,
    tanh,
    tanh_row,
)

NONE = -1
"""Place of a gate that the variant lacks: it is 1."""


@cache
def variant_of(options: tuple[int, ...]) -> np.ndarray:
    """Places of i, f, g, o among the gates; is f = 1 - i; is g squashed by tanh; is c, for the output."""
    return np.array(options, np.int64)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, G), state h, c (B, H) -> y (T, B, H), (h, c), kept; options: see `variant_of`."""
    variant = variant_of(options)
    time, batch, _ = gates.shape
    hidden = state[0].shape[1]
    h, c = (empty_rows(gates, ends, time + 1, batch, hidden) for _ in range(2))
    h[0], c[0] = state
    matrix, peephole, *_ = weights
    run_forward(gates, matrix, three_rows(peephole, variant, c), peephole is not None, variant, ends, h, c)
    return h[1:], (at_end(h, ends), at_end(c, ends)), (gates, h, c)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate h, c goes from last to first, dweights grow."""
    variant = variant_of(options)
    gates, h, c = kept
    width, hidden = gates.shape[2], h.shape[2]
    matrix, peephole, *_ = weights
    dgates = empty_rows(gates, ends, *gates.shape)
    dh, dc = dstate
    rows = three_rows(peephole, variant, c)
    drows = np.zeros_like(rows)
    run_backward(gates, matrix, rows, peephole is not None, variant, ends, c, dy, dh, dc, dgates, drows)
    add_outer(dgates.reshape(-1, width), h[:-1].reshape(-1, hidden), dweights[0])
    if peephole is not None:
        dweights[1] += drows[has_peephole(variant)].reshape(-1)
    return dgates


def has_peephole(variant: np.ndarray) -> np.ndarray:
    """Which of i, f, o the variant has."""
    return variant[[0, 1, 3]] != NONE


def three_rows(peephole: np.ndarray | None, variant: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Peepholes of i, f, o as (3, H), zero where there is none; nothing if there are none at all."""
    rows = np.zeros((3, 0 if peephole is None else like.shape[-1]), like.dtype)
    if peephole is not None:
        rows[has_peephole(variant)] = peephole.reshape(-1, like.shape[-1])
    return rows


@compiled
def run_forward(gates, matrix, peephole, peeps, variant, ends, h, c):  # noqa: ANN001, ANN201
    time, batch, _ = gates.shape
    hidden = h.shape[2]
    at_i, at_f, at_g, at_o = (
        variant[0] * hidden,
        variant[1] * hidden,
        variant[2] * hidden,
        variant[3] * hidden,
    )
    coupled, squash_input, squash_output = variant[4] != 0, variant[5] != 0, variant[6] != 0
    ones, forget = np.ones(hidden, gates.dtype), np.ones(hidden, gates.dtype)
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        multiply(h[t, :rows], matrix, gates[t, :rows], gates[t, :rows])
        for b in range(rows):
            row, before, after, out = gates[t, b], c[t, b], c[t + 1, b], h[t + 1, b]
            i, f, o = ones, ones, ones
            g = row[at_g : at_g + hidden]
            if squash_input:
                tanh_row(g)
            if at_i >= 0:
                i = row[at_i : at_i + hidden]
                if peeps:
                    add_scaled_row(i, peephole[0], before)
                sigmoid_row(i)
            if at_f >= 0:
                f = row[at_f : at_f + hidden]
                if peeps:
                    add_scaled_row(f, peephole[1], before)
                sigmoid_row(f)
            elif coupled:
                f = forget
                for j in range(hidden):
                    f[j] = 1 - i[j]
            for j in range(hidden):
                after[j] = f[j] * before[j] + i[j] * g[j]
            if at_o >= 0:
                o = row[at_o : at_o + hidden]
                if peeps:
                    add_scaled_row(o, peephole[2], after)
                sigmoid_row(o)
            if squash_output:
                for j in range(hidden):
                    out[j] = o[j] * tanh(after[j])
            else:
                for j in range(hidden):
                    out[j] = o[j] * after[j]


@compiled
def run_backward(  # noqa: ANN201
    gates,  # noqa: ANN001
    matrix,  # noqa: ANN001
    peephole,  # noqa: ANN001
    peeps,  # noqa: ANN001
    variant,  # noqa: ANN001
    ends,  # noqa: ANN001
    c,  # noqa: ANN001
    dy,  # noqa: ANN001
    dh,  # noqa: ANN001
    dc,  # noqa: ANN001
    dgates,  # noqa: ANN001
    dpeephole,  # noqa: ANN001
):
    """dh and dc hold the gradients of the final state, at the end those of the first one."""
    time, _batch, _ = gates.shape
    hidden = c.shape[2]
    at_i, at_f, at_g, at_o = (
        variant[0] * hidden,
        variant[1] * hidden,
        variant[2] * hidden,
        variant[3] * hidden,
    )
    coupled, squash_input, squash_output = variant[4] != 0, variant[5] != 0, variant[6] != 0
    ones, forget = np.ones(hidden, gates.dtype), np.ones(hidden, gates.dtype)
    squashed = np.empty(hidden, gates.dtype)
    nothing = np.zeros((1, hidden), gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow, before, after = gates[t, b], dgates[t, b], c[t, b], c[t + 1, b]
            dout, dcell = dh[b], dc[b]
            add_row(dout, dy[t, b])
            i, f, o = ones, ones, ones
            g = row[at_g : at_g + hidden]
            dg = drow[at_g : at_g + hidden]
            if at_i >= 0:
                i = row[at_i : at_i + hidden]
            if at_f >= 0:
                f = row[at_f : at_f + hidden]
            elif coupled:
                f = forget
                for j in range(hidden):
                    f[j] = 1 - i[j]
            if squash_output:
                for j in range(hidden):
                    squashed[j] = tanh(after[j])
            else:
                squashed[:] = after
            if at_o >= 0:
                o = row[at_o : at_o + hidden]
                do = drow[at_o : at_o + hidden]
                for j in range(hidden):
                    do[j] = dout[j] * squashed[j]
                sigmoid_gradient_row(do, o)
                if peeps:
                    add_scaled_row(dcell, peephole[2], do)
                    add_scaled_row(dpeephole[2], after, do)
            if squash_output:
                for j in range(hidden):
                    dcell[j] += dout[j] * o[j] * (1 - squashed[j] * squashed[j])
            else:
                add_scaled_row(dcell, dout, o)
            if squash_input:
                for j in range(hidden):
                    dg[j] = dcell[j] * i[j] * (1 - g[j] * g[j])
            else:
                for j in range(hidden):
                    dg[j] = dcell[j] * i[j]
            if at_i >= 0:
                di = drow[at_i : at_i + hidden]
                for j in range(hidden):
                    di[j] = dcell[j] * g[j]
                if coupled:
                    for j in range(hidden):
                        di[j] -= dcell[j] * before[j]
                sigmoid_gradient_row(di, i)
            if at_f >= 0:
                df = drow[at_f : at_f + hidden]
                for j in range(hidden):
                    df[j] = dcell[j] * before[j]
                sigmoid_gradient_row(df, f)
            for j in range(hidden):
                dcell[j] *= f[j]
            if peeps and at_i >= 0:
                di = drow[at_i : at_i + hidden]
                add_scaled_row(dcell, peephole[0], di)
                add_scaled_row(dpeephole[0], before, di)
            if peeps and at_f >= 0:
                df = drow[at_f : at_f + hidden]
                add_scaled_row(dcell, peephole[1], df)
                add_scaled_row(dpeephole[1], before, df)
        multiply(dgates[t, :rows], matrix, nothing, dh[:rows])
