"""Compiled loops of the Elman network and of IndRNN, whose recurrence is a vector instead of a matrix."""

from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, multiply
from core.kernels.vector_math import (
    add_row,
    add_scaled_row,
    compiled,
    scale_row,
    tanh_gradient_row,
    tanh_row,
)


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, H), state h (B, H) -> y (T, B, H), (h,), kept; options: tanh or relu."""
    (activation,) = options
    time, batch, hidden = gates.shape
    (recurrent,) = weights
    h = empty_rows(gates, ends, time + 1, batch, hidden)
    h[0] = state[0]
    run = run_vector if recurrent.ndim == 1 else run_matrix
    run(gates, recurrent, activation == "tanh", ends, h)
    return h[1:], (at_end(h, ends),), (h,)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate h goes from last to first, dweights grow."""
    (activation,) = options
    (h,), (recurrent,), (dh,) = kept, weights, dstate
    hidden = h.shape[2]
    dgates = empty_rows(dy, ends, *dy.shape)
    if recurrent.ndim == 1:
        run_vector_backward(recurrent, activation == "tanh", ends, h, dy, dh, dgates, dweights[0])
    else:
        run_matrix_backward(recurrent, activation == "tanh", ends, h, dy, dh, dgates)
        add_outer(dgates.reshape(-1, hidden), h[:-1].reshape(-1, hidden), dweights[0])
    return dgates


@compiled
def relu_row(x):  # noqa: ANN001, ANN201
    # not max(x, 0): NaN must stay
    for j in range(x.size):
        x[j] = x[j] * 0 if x[j] <= 0 else x[j]


@compiled
def relu_gradient_row(d, y):  # noqa: ANN001, ANN201
    for j in range(d.size):
        d[j] = 0 if y[j] <= 0 else d[j]


@compiled
def run_matrix(gates, matrix, squash, ends, h):  # noqa: ANN001, ANN201
    time, batch, _ = gates.shape
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        multiply(h[t, :rows], matrix, gates[t, :rows], h[t + 1, :rows])
        for b in range(rows):
            if squash:
                tanh_row(h[t + 1, b])
            else:
                relu_row(h[t + 1, b])


@compiled
def run_matrix_backward(matrix, squash, ends, h, dy, dh, dgates):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, _batch, hidden = dy.shape
    nothing = np.zeros((1, hidden), dy.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            d, dout, after, given = dgates[t, b], dh[b], h[t + 1, b], dy[t, b]
            for j in range(hidden):
                d[j] = dout[j] + given[j]
            if squash:
                tanh_gradient_row(d, after)
            else:
                relu_gradient_row(d, after)
        multiply(dgates[t, :rows], matrix, nothing, dh[:rows])


@compiled
def run_vector(gates, vector, squash, ends, h):  # noqa: ANN001, ANN201
    time, batch, hidden = gates.shape
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        for b in range(rows):
            before, after, row = h[t, b], h[t + 1, b], gates[t, b]
            for j in range(hidden):
                after[j] = row[j] + vector[j] * before[j]
            if squash:
                tanh_row(after)
            else:
                relu_row(after)


@compiled
def run_vector_backward(vector, squash, ends, h, dy, dh, dgates, dvector):  # noqa: ANN001, ANN201
    """dh holds the gradient of the final state, at the end that of the first one."""
    time, _batch, _ = dy.shape
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            d, dout, before, after = dgates[t, b], dh[b], h[t, b], h[t + 1, b]
            add_row(dout, dy[t, b])
            if squash:
                tanh_gradient_row(dout, after)
            else:
                relu_gradient_row(dout, after)
            d[:] = dout
            add_scaled_row(dvector, dout, before)
            scale_row(dout, vector)


@compiled
def run_rows(gates, vector, squash, begins, first, h):  # noqa: ANN001, ANN201
    """Rows one after another: gates, h (N, H), first (B, H); row b lies in begins[b] .. begins[b + 1]."""
    for row in range(begins.size - 1):
        before = first[row]
        for t in range(begins[row], begins[row + 1]):
            token, after = gates[t], h[t]
            for j in range(vector.size):
                after[j] = token[j] + vector[j] * before[j]
            if squash:
                tanh_row(after)
            else:
                relu_row(after)
            before = after


@compiled
def run_rows_backward(vector, squash, begins, first, h, dy, dh, dgates, dvector):  # noqa: ANN001, ANN201
    """dh (B, H) comes in as zeros and takes the gradient of the first states."""
    for row in range(begins.size - 1):
        dout = dh[row]
        for t in range(begins[row + 1] - 1, begins[row] - 1, -1):
            d, given = dgates[t], dy[t]
            for j in range(vector.size):
                d[j] = given[j] + dout[j]
            if squash:
                tanh_gradient_row(d, h[t])
            else:
                relu_gradient_row(d, h[t])
            add_scaled_row(dvector, d, first[row] if t == begins[row] else h[t - 1])
            for j in range(vector.size):
                dout[j] = d[j] * vector[j]
