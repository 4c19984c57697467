"""One LSTM step of one token outside of torch; equations of `core.units.gated.lstm` without its variants."""

from typing import Any

import numpy as np

from core.kernels.jit import compiled
from core.kernels.vector_math import sigmoid32, tanh32
from core.streaming.products import add_product, array


@compiled
def lstm_cell(gates: Any, h: Any, c: Any) -> None:
    """gates (4 H,) as i, f, g, o -> h, c (H,) in place."""
    H = h.shape[0]
    for j in range(H):
        i = sigmoid32(gates[j])
        f = sigmoid32(gates[H + j])
        g = tanh32(gates[2 * H + j])
        o = sigmoid32(gates[3 * H + j])
        c[j] = f * c[j] + i * g
        h[j] = o * tanh32(c[j])


@compiled
def lstm_step(x: Any, w: Any, u: Any, b: Any, h: Any, c: Any) -> None:
    """x (I,), weights as `lstm_weights` gives them -> h, c (H,) in place."""
    gates = b.copy()
    add_product(x, w, gates)
    add_product(h, u, gates)
    lstm_cell(gates, h, c)


def lstm_weights(unit: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (I, 4 H), U (H, 4 H) and the sum of both biases (4 H,) of a plain LSTM."""
    return array(unit.weight_ih.T), array(unit.weight_hh.T), array(unit.bias_ih + unit.bias_hh)
