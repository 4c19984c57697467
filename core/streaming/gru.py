"""A stack of GRU layers for one sequence at a time, outside of torch: what a live system calls.

The equations are those of `core.units.gated.gru` (reset after). Calling torch costs microseconds per
operator and a recurrent layer has several per token, so here a whole stack over a whole window is one
compiled call. Layers run one after another: the recurrent matrix of a layer of 64 (48 KB) then stays in the
first-level cache over all its tokens.
"""

from typing import Any

import numpy as np
from torch import nn

from core.kernels.jit import compiled
from core.kernels.vector_math import sigmoid32, tanh32

BLOCK = 8
"""Rows of a matrix that one pass over the outputs takes."""


@compiled
def add_product(x: Any, w: Any, out: Any) -> None:
    """out (O,) += x (I,) @ w (I, O)."""
    inputs, outputs = w.shape
    whole = inputs - inputs % BLOCK
    for j in range(0, whole, BLOCK):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        e, f, g, h = x[j + 4], x[j + 5], x[j + 6], x[j + 7]
        for i in range(outputs):
            out[i] += (
                a * w[j, i]
                + b * w[j + 1, i]
                + c * w[j + 2, i]
                + d * w[j + 3, i]
                + e * w[j + 4, i]
                + f * w[j + 5, i]
                + g * w[j + 6, i]
                + h * w[j + 7, i]
            )
    for j in range(whole, inputs):
        a = x[j]
        for i in range(outputs):
            out[i] += a * w[j, i]


@compiled
def gru_gates(projected: Any, recurrent: Any, h: Any) -> None:
    """One step: W x + b_i (3H,), U h + b_h (3H,) (overwritten), h (H,) in place."""
    width = h.shape[0]
    for i in range(2 * width):
        recurrent[i] = sigmoid32(projected[i] + recurrent[i])
    for i in range(width):
        n = tanh32(projected[2 * width + i] + recurrent[i] * recurrent[2 * width + i])
        h[i] = n + recurrent[width + i] * (h[i] - n)


@compiled
def gru_layers(weights: Any, inputs: int, width: int, layers: int, x: Any, h: Any, work: Any) -> None:
    """All layers over a window: x (T, max(I, H)) becomes the outputs (T, H), h (L, H) the final state.

    weights: packed by `pack`; work: (T + 1, 3 H) scratch.
    """
    time = x.shape[0]
    gates = 3 * width
    at = 0
    for layer in range(layers):
        size = inputs if layer == 0 else width
        w = weights[at : at + size * gates].reshape(size, gates)
        at += size * gates
        u = weights[at : at + width * gates].reshape(width, gates)
        at += width * gates
        b_i = weights[at : at + gates]
        b_h = weights[at + gates : at + 2 * gates]
        at += 2 * gates
        for t in range(time):
            work[t] = b_i
            add_product(x[t, :size], w, work[t])
        recurrent = work[time]
        for t in range(time):
            recurrent[:] = b_h
            add_product(h[layer], u, recurrent)
            gru_gates(work[t], recurrent, h[layer])
            x[t, :width] = h[layer]


def pack(stack: Any) -> np.ndarray:
    """The weights of a `core.stack("gru", ...)` in one float32 array, layer by layer W^T, U^T, b_i, b_h.

    Raises:
        ValueError: not a one-directional stack of reset-after GRUs without residuals.
    """
    from core.units.gated.gru import GRU

    units = list(stack.units)
    fits = all(isinstance(unit, GRU) and (unit.reset, unit.update) == ("after", "keep") for unit in units)
    if not fits or stack.directions != 1 or stack.residual:
        raise ValueError("the compiled stream takes one-directional stacks of reset-after GRUs, no residuals")
    parts = []
    for unit in units:
        parts += [matrix(unit.weight_ih).T, matrix(unit.weight_hh).T]
        for bias in (unit.bias_ih, unit.bias_hh):
            parts.append(np.zeros(3 * unit.hidden_size, np.float32) if bias is None else matrix(bias))
    return np.concatenate([part.ravel() for part in parts])


def matrix(parameter: nn.Parameter) -> np.ndarray:
    """A parameter as a float32 array."""
    return np.asarray(parameter.detach().float().cpu().numpy())


class GRUStream:
    """A stack of GRUs for windows (T, I) and single tokens (I,) of one sequence, in numpy."""

    def __init__(self, stack: Any) -> None:
        self.weights = pack(stack)
        first = stack.units[0]
        self.input_size, self.hidden_size, self.layers = first.input_size, first.hidden_size, len(stack.units)
        self.work: np.ndarray = np.empty((0, 0), np.float32)

    def initial_state(self) -> np.ndarray:
        """(L, H) zeros."""
        return np.zeros((self.layers, self.hidden_size), np.float32)

    def run(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """x (T, I) -> y (T, H), state (L, H)."""
        state = self.initial_state() if state is None else state.copy()
        tokens = np.zeros((len(x), max(self.input_size, self.hidden_size)), np.float32)
        tokens[:, : self.input_size] = x
        if self.work.shape[0] < len(x) + 1:
            self.work = np.empty((len(x) + 1, 3 * self.hidden_size), np.float32)
        gru_layers(
            self.weights,
            self.input_size,
            self.hidden_size,
            self.layers,
            tokens,
            state,
            self.work[: len(x) + 1],
        )
        return tokens[:, : self.hidden_size], state

    def step(self, x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (I,), state (L, H) -> y (H,), state."""
        y, state = self.run(x[None], state)
        return y[0], state
