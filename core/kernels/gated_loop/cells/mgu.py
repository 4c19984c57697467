"""Compiled loops of the minimal gated unit (equations: `core.units.gated.mgu`)."""

from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, multiply
from core.kernels.vector_math import (
    add_row,
    compiled,
    sigmoid_gradient_row,
    sigmoid_row,
    tanh_gradient_row,
    tanh_row,
)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, 2 H), state h (B, H) -> y (T, B, H), (h,), kept."""
    time, batch, width = gates.shape
    h = empty_rows(gates, ends, time + 1, batch, width // 2)
    inner = empty_rows(gates, ends, time, batch, width // 2)
    h[0] = state[0]
    run_forward(gates, *weights, ends, inner, h)
    return h[1:], (at_end(h, ends),), (gates, inner, h)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate h goes from last to first, dweights grow."""
    gates, inner, h = kept
    width = gates.shape[2]
    hidden = width // 2
    dgates, (dh,) = empty_rows(gates, ends, *gates.shape), dstate
    run_backward(gates, *weights, ends, h, dy, dh, dgates)
    rows = dgates.reshape(-1, width)
    add_outer(rows[:, :hidden], h[:-1].reshape(-1, hidden), dweights[0])
    add_outer(rows[:, hidden:], inner.reshape(-1, hidden), dweights[1])
    return dgates


@compiled
def run_forward(gates, matrix_f, matrix_n, ends, inner, h):  # noqa: ANN001, ANN201
    """inner (T, B, H) takes f * h."""
    time, batch, width = gates.shape
    hidden = width // 2
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        forget, new = gates[t, :rows, :hidden], gates[t, :rows, hidden:]
        multiply(h[t, :rows], matrix_f, forget, forget)
        for b in range(rows):
            f, kept, before = gates[t, b, :hidden], inner[t, b], h[t, b]
            sigmoid_row(f)
            for j in range(hidden):
                kept[j] = f[j] * before[j]
        multiply(inner[t, :rows], matrix_n, new, new)
        for b in range(rows):
            f, n, before, after = gates[t, b, :hidden], gates[t, b, hidden:], h[t, b], h[t + 1, b]
            tanh_row(n)
            for j in range(hidden):
                after[j] = before[j] + f[j] * (n[j] - before[j])


@compiled
def run_backward(gates, matrix_f, matrix_n, ends, h, dy, dh, dgates):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, batch, width = gates.shape
    hidden = width // 2
    nothing = np.zeros((1, hidden), gates.dtype)
    dkept = np.empty((batch, hidden), gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            f, n, before = gates[t, b, :hidden], gates[t, b, hidden:], h[t, b]
            df, dn, dout = dgates[t, b, :hidden], dgates[t, b, hidden:], dh[b]
            add_row(dout, dy[t, b])
            for j in range(hidden):
                df[j] = dout[j] * (n[j] - before[j])
            for j in range(hidden):
                dn[j] = dout[j] * f[j]
            tanh_gradient_row(dn, n)
            for j in range(hidden):
                dout[j] *= 1 - f[j]
        multiply(dgates[t, :rows, hidden:], matrix_n, nothing, dkept[:rows])
        for b in range(rows):
            f, df, before, dout, d = gates[t, b, :hidden], dgates[t, b, :hidden], h[t, b], dh[b], dkept[b]
            for j in range(hidden):
                df[j] += d[j] * before[j]
            sigmoid_gradient_row(df, f)
            for j in range(hidden):
                dout[j] += d[j] * f[j]
        multiply(dgates[t, :rows, :hidden], matrix_f, dh[:rows], dh[:rows])
