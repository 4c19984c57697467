"""Compiled loops of the long expressive memory (equations: `core.units.gated.lem`).

Gates are stacked as in the authors' code: step of y, step of z, candidate of y, candidate of z.
"""

from typing import Any

import numpy as np

from core.kernels.gated_loop.rows import at_end, begun, empty_rows, still_running
from core.kernels.matmul import add_outer, multiply
from core.kernels.vector_math import add_row, compiled, sigmoid, sigmoid_gradient_row, tanh, tanh_row


def forward(gates: np.ndarray, state: Any, weights: Any, options: Any, ends: np.ndarray) -> Any:
    """gates (T, B, 4 H), state y, z (B, H) -> y (T, B, H), (y, z), kept; options: the time step."""
    time, batch, width = gates.shape
    y, z = (empty_rows(gates, ends, time + 1, batch, width // 4) for _ in range(2))
    y[0], z[0] = state
    run_forward(gates, *weights, gates.dtype.type(options[0]), ends, y, z)
    return y[1:], (at_end(y, ends), at_end(z, ends)), (gates, y, z)


def backward(
    kept: Any, weights: Any, options: Any, ends: np.ndarray, dy: np.ndarray, dstate: Any, dweights: Any
) -> np.ndarray:
    """dy (T, B, H) -> dgates; dstate y, z goes from last to first, dweights grow."""
    gates, y, z = kept
    width = gates.shape[2]
    hidden = width // 4
    dgates = empty_rows(gates, ends, *gates.shape)
    run_backward(gates, *weights, gates.dtype.type(options[0]), ends, y, z, dy, *dstate, dgates)
    rows, before = dgates.reshape(-1, width), y[:-1].reshape(-1, hidden)
    d_y, d_z = dweights
    add_outer(rows[:, : 2 * hidden], before, d_y[: 2 * hidden])
    add_outer(rows[:, 3 * hidden :], before, d_y[2 * hidden :])
    add_outer(rows[:, 2 * hidden : 3 * hidden], z[1:].reshape(-1, hidden), d_z)
    return dgates


@compiled
def run_forward(gates, matrix_y, matrix_z, dt, ends, y, z):  # noqa: ANN001, ANN201
    time, batch, width = gates.shape
    hidden = width // 4
    nothing = np.zeros((1, 3 * hidden), gates.dtype)
    recurrent = np.empty((batch, 3 * hidden), gates.dtype)
    rows = batch
    for t in range(time):
        rows = still_running(ends, rows, t)
        multiply(y[t, :rows], matrix_y, nothing, recurrent[:rows])
        for b in range(rows):
            row, own, before, after = gates[t, b], recurrent[b], z[t, b], z[t + 1, b]
            step, candidate, own_candidate = row[hidden : 2 * hidden], row[3 * hidden :], own[2 * hidden :]
            for j in range(2 * hidden):
                row[j] = sigmoid(row[j] + own[j])
            for j in range(hidden):
                candidate[j] = tanh(candidate[j] + own_candidate[j])
            for j in range(hidden):
                after[j] = before[j] + dt * step[j] * (candidate[j] - before[j])
        drive = gates[t, :rows, 2 * hidden : 3 * hidden]
        multiply(z[t + 1, :rows], matrix_z, drive, drive)
        for b in range(rows):
            row, before, after = gates[t, b], y[t, b], y[t + 1, b]
            step, candidate = row[:hidden], row[2 * hidden : 3 * hidden]
            tanh_row(candidate)
            for j in range(hidden):
                after[j] = before[j] + dt * step[j] * (candidate[j] - before[j])


@compiled
def step_backward(dt, step, candidate, before, dafter, dstep, dcandidate):  # noqa: ANN001, ANN201
    """after = (1 - dt s) before + dt s u: gradients of the inputs of s and u; dafter becomes dbefore."""
    for j in range(step.size):
        dstep[j] = dafter[j] * dt * (candidate[j] - before[j])
    sigmoid_gradient_row(dstep, step)
    for j in range(step.size):
        dcandidate[j] = dafter[j] * dt * step[j] * (1 - candidate[j] * candidate[j])
    for j in range(step.size):
        dafter[j] *= 1 - dt * step[j]


@compiled
def run_backward(gates, matrix_y, matrix_z, dt, ends, y, z, dy, dstate_y, dstate_z, dgates):  # noqa: ANN001, ANN201
    """dstate_y and dstate_z hold the gradients of the final state, at the end those of the first one."""
    time, batch, width = gates.shape
    hidden = width // 4
    recurrent = np.empty((batch, 3 * hidden), gates.dtype)
    rows = 0
    for t in range(time - 1, -1, -1):
        rows = begun(ends, rows, t)
        for b in range(rows):
            row, drow = gates[t, b], dgates[t, b]
            add_row(dstate_y[b], dy[t, b])
            step_backward(
                dt,
                row[:hidden],
                row[2 * hidden : 3 * hidden],
                y[t, b],
                dstate_y[b],
                drow[:hidden],
                drow[2 * hidden : 3 * hidden],
            )
        multiply(dgates[t, :rows, 2 * hidden : 3 * hidden], matrix_z, dstate_z[:rows], dstate_z[:rows])
        for b in range(rows):
            row, drow, own = gates[t, b], dgates[t, b], recurrent[b]
            step_backward(
                dt,
                row[hidden : 2 * hidden],
                row[3 * hidden :],
                z[t, b],
                dstate_z[b],
                drow[hidden : 2 * hidden],
                drow[3 * hidden :],
            )
            own[: 2 * hidden] = drow[: 2 * hidden]
            own[2 * hidden :] = drow[3 * hidden :]
        multiply(recurrent[:rows], matrix_y, dstate_y[:rows], dstate_y[:rows])
