"""Compiled loops of ParaGRU and ParaLSTM, whose recurrent weights are vectors (equations: their units)."""

from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.vector_math import (
    add_row,
    add_scaled_row,
    compiled,
    sigmoid,
    sigmoid_gradient_row,
    sigmoid_row,
    tanh,
    tanh_gradient_row,
    tanh_row,
)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, 3 H), states (B, H) -> y (T, B, H), states, kept; options: gru or lstm."""
    time, batch, width = gates.shape
    h = empty_rows(gates, ends, time + 1, batch, width // 3)
    h[0] = state[0]
    if options[0] == "gru":
        run_gru(gates, weights[0], ends, h)
        return h[1:], (at_end(h, ends),), (gates, h)
    c = empty_rows(gates, ends, time + 1, batch, width // 3)
    c[0] = state[1]
    run_lstm(gates, *weights, ends, h, c)
    return h[1:], (at_end(h, ends), at_end(c, ends)), (gates, h, c)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate goes from last to first, dweights grow."""
    dgates = empty_rows(dy, ends, *kept[0].shape)
    run = run_gru_backward if options[0] == "gru" else run_lstm_backward
    run(*kept, *weights, ends, dy, *dstate, dgates, *dweights)
    return dgates


@compiled
def run_gru(gates, vector, ends, h):  # noqa: ANN001, ANN201
    time, batch, width = gates.shape
    hidden = width // 3
    a_z, a_r, a_n = vector[:hidden], vector[hidden : 2 * hidden], vector[2 * hidden :]
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        for b in range(rows):
            row, before, after = gates[t, b], h[t, b], h[t + 1, b]
            z, r, n = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden :]
            add_scaled_row(z, a_z, before)
            add_scaled_row(r, a_r, before)
            sigmoid_row(row[: 2 * hidden])
            for j in range(hidden):
                n[j] += a_n[j] * r[j] * before[j]
            tanh_row(n)
            for j in range(hidden):
                after[j] = before[j] + z[j] * (n[j] - before[j])


@compiled
def run_gru_backward(gates, h, vector, ends, dy, dh, dgates, dvector):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, _batch, width = gates.shape
    hidden = width // 3
    a_z, a_r, a_n = vector[:hidden], vector[hidden : 2 * hidden], vector[2 * hidden :]
    to_z, to_r, to_n = dvector[:hidden], dvector[hidden : 2 * hidden], dvector[2 * hidden :]
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow, before, dout = gates[t, b], dgates[t, b], h[t, b], dh[b]
            z, r, n = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden :]
            dz, dr, dn = drow[:hidden], drow[hidden : 2 * hidden], drow[2 * hidden :]
            add_row(dout, dy[t, b])
            for j in range(hidden):
                dz[j] = dout[j] * (n[j] - before[j])
            sigmoid_gradient_row(dz, z)
            for j in range(hidden):
                dn[j] = dout[j] * z[j]
            tanh_gradient_row(dn, n)
            for j in range(hidden):
                dr[j] = dn[j] * a_n[j] * before[j]
            sigmoid_gradient_row(dr, r)
            for j in range(hidden):
                to_n[j] += dn[j] * r[j] * before[j]
            add_scaled_row(to_z, dz, before)
            add_scaled_row(to_r, dr, before)
            for j in range(hidden):
                dout[j] = dout[j] * (1 - z[j]) + dn[j] * a_n[j] * r[j]
            add_scaled_row(dout, dz, a_z)
            add_scaled_row(dout, dr, a_r)


@compiled
def run_lstm(gates, vector, peephole, ends, h, c):  # noqa: ANN001, ANN201
    time, batch, width = gates.shape
    hidden = width // 3
    a_f, a_o, a_g = vector[:hidden], vector[hidden : 2 * hidden], vector[2 * hidden :]
    c_f, c_o = peephole[:hidden], peephole[hidden:]
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        for b in range(rows):
            row, before, after = gates[t, b], h[t, b], h[t + 1, b]
            cell, new = c[t, b], c[t + 1, b]
            f, o, g = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden :]
            add_scaled_row(f, a_f, before)
            add_scaled_row(f, c_f, cell)
            add_scaled_row(o, a_o, before)
            add_scaled_row(g, a_g, before)
            sigmoid_row(f)
            tanh_row(g)
            for j in range(hidden):
                new[j] = g[j] + f[j] * (cell[j] - g[j])
            add_scaled_row(o, c_o, new)
            for j in range(hidden):
                o[j] = sigmoid(o[j])
                after[j] = o[j] * tanh(new[j])


@compiled
def run_lstm_backward(  # noqa: ANN201
    gates,  # noqa: ANN001
    h,  # noqa: ANN001
    c,  # noqa: ANN001
    vector,  # noqa: ANN001
    peephole,  # noqa: ANN001
    ends,  # noqa: ANN001
    dy,  # noqa: ANN001
    dh,  # noqa: ANN001
    dc,  # noqa: ANN001
    dgates,  # noqa: ANN001
    dvector,  # noqa: ANN001
    dpeephole,  # noqa: ANN001
):
    """dh, dc hold the gradients of the final state, at the end those of the first one."""
    time, _batch, width = gates.shape
    hidden = width // 3
    a_f, a_o, a_g = vector[:hidden], vector[hidden : 2 * hidden], vector[2 * hidden :]
    to_f, to_o, to_g = dvector[:hidden], dvector[hidden : 2 * hidden], dvector[2 * hidden :]
    c_f, c_o = peephole[:hidden], peephole[hidden:]
    squashed = np.empty(hidden, gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow, before, dout = gates[t, b], dgates[t, b], h[t, b], dh[b]
            cell, new, dcell = c[t, b], c[t + 1, b], dc[b]
            f, o, g = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden :]
            df, do, dg = drow[:hidden], drow[hidden : 2 * hidden], drow[2 * hidden :]
            add_row(dout, dy[t, b])
            squashed[:] = new
            tanh_row(squashed)
            for j in range(hidden):
                do[j] = dout[j] * squashed[j]
            sigmoid_gradient_row(do, o)
            for j in range(hidden):
                dcell[j] += dout[j] * o[j] * (1 - squashed[j] * squashed[j])
            add_scaled_row(dcell, do, c_o)
            for j in range(hidden):
                df[j] = dcell[j] * (cell[j] - g[j])
            sigmoid_gradient_row(df, f)
            for j in range(hidden):
                dg[j] = dcell[j] * (1 - f[j])
            tanh_gradient_row(dg, g)
            add_scaled_row(to_f, df, before)
            add_scaled_row(to_o, do, before)
            add_scaled_row(to_g, dg, before)
            add_scaled_row(dpeephole[:hidden], df, cell)
            add_scaled_row(dpeephole[hidden:], do, new)
            for j in range(hidden):
                dcell[j] *= f[j]
            add_scaled_row(dcell, df, c_f)
            for j in range(hidden):
                dout[j] = df[j] * a_f[j]
            add_scaled_row(dout, do, a_o)
            add_scaled_row(dout, dg, a_g)
