"""Compiled loops of the sLSTM cell (equations: `core.units.gated.slstm`)."""

import math
from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, multiply
from core.kernels.vector_math import (
    add_row,
    compiled,
    exp,
    sigmoid_gradient_row,
    sigmoid_row,
    tanh_gradient_row,
    tanh_row,
)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, 4 H), state y, c, n, m (B, H) -> y (T, B, H), state, kept; weights: packed heads."""
    time, batch, width = gates.shape
    hidden = width // 4
    y, c, n, m = (empty_rows(gates, ends, time + 1, batch, hidden) for _ in range(4))
    y[0], c[0], n[0], m[0] = state
    log_forget = empty_rows(gates, ends, time, batch, hidden)
    run_forward(gates, *weights, ends, y, c, n, m, log_forget)
    return y[1:], [at_end(part, ends) for part in (y, c, n, m)], (gates, y, c, n, m, log_forget)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate y, c, n, m goes from last to first, dweights (heads, 4 d, d) grow."""
    gates, y, c, n, m, log_forget = kept
    (matrix,) = weights
    time, batch, width = gates.shape
    hidden, heads = width // 4, len(matrix)
    own = hidden // heads
    dgates = empty_rows(gates, ends, *gates.shape)
    dheads = np.zeros((heads, time, batch, 4 * own), gates.dtype)
    run_backward(gates, matrix, ends, c, n, m, log_forget, dy, *dstate, dgates, dheads)
    before = y[:-1].reshape(-1, hidden)
    for head in range(heads):
        columns = np.ascontiguousarray(before[:, head * own : (head + 1) * own])
        add_outer(dheads[head].reshape(-1, 4 * own), columns, dweights[0][head])
    return dgates


@compiled
def run_forward(gates, matrix, ends, y, c, n, m, log_forget):  # noqa: ANN001, ANN201
    time, batch, width = gates.shape
    hidden, heads = width // 4, len(matrix)
    own = hidden // heads
    nothing = np.zeros((1, 4 * own), gates.dtype)
    recurrent = np.empty((batch, 4 * own), gates.dtype)
    raised = np.empty(hidden, gates.dtype)
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        for head in range(heads):
            left = head * own
            multiply(y[t, :rows, left : left + own], matrix[head], nothing, recurrent[:rows])
            for b in range(rows):
                for gate in range(4):
                    at = gate * hidden + left
                    add_row(gates[t, b, at : at + own], recurrent[b, gate * own : (gate + 1) * own])
        for b in range(rows):
            row, lf, peak, last_peak = gates[t, b], log_forget[t, b], m[t + 1, b], m[t, b]
            i, f, z, o = (
                row[:hidden],
                row[hidden : 2 * hidden],
                row[2 * hidden : 3 * hidden],
                row[3 * hidden :],
            )
            last_n, next_n, last_c, next_c, out = n[t, b], n[t + 1, b], c[t, b], c[t + 1, b], y[t + 1, b]
            tanh_row(z)
            sigmoid_row(o)
            for j in range(hidden):
                lf[j] = min(f[j], 0) - math.log1p(math.exp(-abs(f[j])))
            for j in range(hidden):
                raised[j] = lf[j] + last_peak[j]
            for j in range(hidden):
                peak[j] = raised[j] if (last_n[j] != 0 and raised[j] > i[j]) else i[j]
            # both factors are at most one, also where the peak is not the larger of the two
            for j in range(hidden):
                i[j] = exp(i[j] - peak[j])
            for j in range(hidden):
                f[j] = raised[j] - peak[j]
            for j in range(hidden):
                f[j] = 1 if f[j] > 0 else exp(f[j])
            for j in range(hidden):
                next_c[j] = f[j] * last_c[j] + i[j] * z[j]
            for j in range(hidden):
                next_n[j] = f[j] * last_n[j] + i[j]
            for j in range(hidden):
                out[j] = o[j] * next_c[j] / next_n[j]


@compiled
def run_backward(  # noqa: ANN201
    gates,  # noqa: ANN001
    matrix,  # noqa: ANN001
    ends,  # noqa: ANN001
    c,  # noqa: ANN001
    n,  # noqa: ANN001
    m,  # noqa: ANN001
    log_forget,  # noqa: ANN001
    dy,  # noqa: ANN001
    dout,  # noqa: ANN001
    dc,  # noqa: ANN001
    dn,  # noqa: ANN001
    dm,  # noqa: ANN001
    dgates,  # noqa: ANN001
    dheads,  # noqa: ANN001
):
    """dout, dc, dn, dm hold the gradients of the final state, at the end those of the first one."""
    time, _batch, width = gates.shape
    hidden, heads = width // 4, len(matrix)
    own = hidden // heads
    nothing = np.zeros((1, own), gates.dtype)
    ratio = np.empty(hidden, gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow = gates[t, b], dgates[t, b]
            i, f, z, o = (
                row[:hidden],
                row[hidden : 2 * hidden],
                row[2 * hidden : 3 * hidden],
                row[3 * hidden :],
            )
            di, df = drow[:hidden], drow[hidden : 2 * hidden]
            dz, do = drow[2 * hidden : 3 * hidden], drow[3 * hidden :]
            last_c, next_c, last_n, next_n = c[t, b], c[t + 1, b], n[t, b], n[t + 1, b]
            last_m, next_m, lf = m[t, b], m[t + 1, b], log_forget[t, b]
            d, d_c, d_n, d_m = dout[b], dc[b], dn[b], dm[b]
            add_row(d, dy[t, b])
            for j in range(hidden):
                ratio[j] = next_c[j] / next_n[j]
            for j in range(hidden):
                do[j] = d[j] * ratio[j]
            sigmoid_gradient_row(do, o)
            for j in range(hidden):
                d[j] = d[j] * o[j] / next_n[j]
            add_row(d_c, d)
            for j in range(hidden):
                d_n[j] -= d[j] * ratio[j]
            for j in range(hidden):
                dz[j] = d_c[j] * i[j]
            tanh_gradient_row(dz, z)
            # through the exponentials: i = exp(i~ - m), f = exp(lf + m_before - m), the latter cut at one
            for j in range(hidden):
                di[j] = (d_c[j] * z[j] + d_n[j]) * i[j]
            for j in range(hidden):
                df[j] = (d_c[j] * last_c[j] + d_n[j] * last_n[j]) * f[j]
            for j in range(hidden):
                raised = lf[j] + last_m[j]
                kept = 0 if raised > next_m[j] else df[j]
                to_peak = d_m[j] - kept - di[j]
                by_forget = last_n[j] != 0 and raised == next_m[j]
                di[j] += 0 if by_forget else to_peak
                d_m[j] = kept + to_peak if by_forget else kept
            for j in range(hidden):
                df[j] = d_m[j] * (1 - exp(lf[j]))
            for j in range(hidden):
                d_c[j] *= f[j]
            for j in range(hidden):
                d_n[j] *= f[j]
        for head in range(heads):
            left = head * own
            for b in range(rows):
                for gate in range(4):
                    at = gate * hidden + left
                    dheads[head, t, b, gate * own : (gate + 1) * own] = dgates[t, b, at : at + own]
            multiply(dheads[head, t, :rows], matrix[head], nothing, dout[:rows, left : left + own])
