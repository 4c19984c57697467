"""Compiled loops of the GRU cell, reset after or before the product (equations: `core.units.gated.gru`)."""

from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, add_rows, multiply
from core.kernels.vector_math import (
    add_row,
    compiled,
    part,
    sigmoid,
    sigmoid_gradient_row,
    sigmoid_row,
    tanh,
    tanh_gradient_row,
    tanh_row,
)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, 3 H), state h (B, H) -> y (T, B, H), (h,), kept; options: is the reset before."""
    (reset_before,) = options
    time, batch, width = gates.shape
    hidden = width // 3
    h = empty_rows(gates, ends, time + 1, batch, hidden)
    inner = empty_rows(gates, ends, time, batch, hidden)
    h[0] = state[0]
    if reset_before:
        run_before(gates, *weights, ends, inner, h)
    else:
        matrix, bias = weights
        run_after(gates, matrix, np.zeros(width, gates.dtype) if bias is None else bias, ends, inner, h)
    return h[1:], (at_end(h, ends),), (gates, inner, h)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate h goes from last to first, dweights grow."""
    (reset_before,) = options
    gates, inner, h = kept
    width = gates.shape[2]
    hidden = width // 3
    dgates, (dh,) = empty_rows(gates, ends, *gates.shape), dstate
    rows, before = dgates.reshape(-1, width), h[:-1].reshape(-1, hidden)
    if reset_before:
        run_before_backward(gates, *weights, ends, h, dy, dh, dgates)
        add_outer(rows[:, : 2 * hidden], before, dweights[0])
        add_outer(rows[:, 2 * hidden :], inner.reshape(-1, hidden), dweights[1])
        return dgates
    matrix, _ = weights
    dmatrix, dbias = dweights
    dinner = empty_rows(gates, ends, *inner.shape)
    run_after_backward(gates, matrix, ends, inner, h, dy, dh, dgates, dinner)
    add_outer(rows[:, : 2 * hidden], before, dmatrix[: 2 * hidden])
    add_outer(dinner.reshape(-1, hidden), before, dmatrix[2 * hidden :])
    if dbias is not None:
        add_rows(rows[:, : 2 * hidden], dbias[: 2 * hidden])
        add_rows(dinner.reshape(-1, hidden), dbias[2 * hidden :])
    return dgates


@compiled
def run_after(gates, matrix, bias, ends, inner, h):  # noqa: ANN001, ANN201
    """inner (T, B, H) takes U_n h + c."""
    time, batch, width = gates.shape
    hidden = width // 3
    start = bias.reshape(1, width)
    recurrent = np.empty((batch, width), gates.dtype)
    # flat, since a part of a flat array is no counted reference: ten of those cost as much as a row
    all_gates, all_own, all_u, all_h = (
        gates.reshape(-1),
        recurrent.reshape(-1),
        inner.reshape(-1),
        h.reshape(-1),
    )
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        multiply(h[t, :rows], matrix, start, recurrent[:rows], t)
        for b in range(rows):
            at = (t * batch + b) * hidden
            row, own = part(all_gates, 3 * at, width), part(all_own, b * width, width)
            rz, r, z = part(row, 0, 2 * hidden), part(row, 0, hidden), part(row, hidden, hidden)
            n, un, u = part(row, 2 * hidden, hidden), part(own, 2 * hidden, hidden), part(all_u, at, hidden)
            before, after = part(all_h, at, hidden), part(all_h, at + batch * hidden, hidden)
            for j in range(2 * hidden):
                rz[j] = sigmoid(rz[j] + own[j])
            for j in range(hidden):
                u[j] = un[j]
            for j in range(hidden):
                n[j] = tanh(n[j] + r[j] * un[j])
            for j in range(hidden):
                after[j] = n[j] + z[j] * (before[j] - n[j])


@compiled
def run_after_backward(gates, matrix, ends, inner, h, dy, dh, dgates, dinner):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, batch, width = gates.shape
    hidden = width // 3
    recurrent = np.empty((batch, width), gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow, own = gates[t, b], dgates[t, b], recurrent[b]
            before, dout, un, dun = h[t, b], dh[b], inner[t, b], dinner[t, b]
            r, z, n = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden :]
            dr, dz, dn = drow[:hidden], drow[hidden : 2 * hidden], drow[2 * hidden :]
            own_n = own[2 * hidden :]
            add_row(dout, dy[t, b])
            for j in range(hidden):
                dz[j] = dout[j] * (before[j] - n[j])
            sigmoid_gradient_row(dz, z)
            for j in range(hidden):
                dn[j] = dout[j] * (1 - z[j]) * (1 - n[j] * n[j])
            for j in range(hidden):
                dr[j] = dn[j] * un[j]
            sigmoid_gradient_row(dr, r)
            for j in range(hidden):
                dun[j] = dn[j] * r[j]
            for j in range(2 * hidden):
                own[j] = drow[j]
            for j in range(hidden):
                own_n[j] = dun[j]
            for j in range(hidden):
                dout[j] *= z[j]
        multiply(recurrent[:rows], matrix, dh[:rows], dh[:rows])


@compiled
def run_before(gates, matrix_rz, matrix_n, ends, inner, h):  # noqa: ANN001, ANN201
    """inner (T, B, H) takes r * h."""
    time, batch, width = gates.shape
    hidden = width // 3
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        rz, n = gates[t, :rows, : 2 * hidden], gates[t, :rows, 2 * hidden :]
        multiply(h[t, :rows], matrix_rz, rz, rz)
        for b in range(rows):
            row, kept, before = gates[t, b], inner[t, b], h[t, b]
            sigmoid_row(row[: 2 * hidden])
            for j in range(hidden):
                kept[j] = row[j] * before[j]
        multiply(inner[t, :rows], matrix_n, n, n)
        for b in range(rows):
            row, before, after = gates[t, b], h[t, b], h[t + 1, b]
            z, new = row[hidden : 2 * hidden], row[2 * hidden :]
            tanh_row(new)
            for j in range(hidden):
                after[j] = new[j] + z[j] * (before[j] - new[j])


@compiled
def run_before_backward(gates, matrix_rz, matrix_n, ends, h, dy, dh, dgates):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, batch, width = gates.shape
    hidden = width // 3
    nothing = np.zeros((1, hidden), gates.dtype)
    dkept = np.empty((batch, hidden), gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow, before, dout = gates[t, b], dgates[t, b], h[t, b], dh[b]
            z, n = row[hidden : 2 * hidden], row[2 * hidden :]
            dz, dn = drow[hidden : 2 * hidden], drow[2 * hidden :]
            add_row(dout, dy[t, b])
            for j in range(hidden):
                dz[j] = dout[j] * (before[j] - n[j])
            sigmoid_gradient_row(dz, z)
            for j in range(hidden):
                dn[j] = dout[j] * (1 - z[j])
            tanh_gradient_row(dn, n)
            for j in range(hidden):
                dout[j] *= z[j]
        multiply(dgates[t, :rows, 2 * hidden :], matrix_n, nothing, dkept[:rows])
        for b in range(rows):
            r, dr, before, dout, d = gates[t, b, :hidden], dgates[t, b, :hidden], h[t, b], dh[b], dkept[b]
            for j in range(hidden):
                dr[j] = d[j] * before[j]
            sigmoid_gradient_row(dr, r)
            for j in range(hidden):
                dout[j] += d[j] * r[j]
        multiply(dgates[t, :rows, : 2 * hidden], matrix_rz, dh[:rows], dh[:rows])
