"""Products of one token outside of torch: what every compiled stream is made of.

A matrix lies as (inputs, outputs), so that one pass over the outputs takes eight inputs at once and the
compiler turns it into vector instructions.
"""

import math
from typing import Any

import numpy as np

from core.kernels.jit import compiled

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
def add_products(x: Any, w: Any, out: Any) -> None:
    """out (K, O) += x (K, I) @ w (I, O), four rows at once: what is read of w serves them all."""
    rows, inputs, outputs = x.shape[0], w.shape[0], w.shape[1]
    many, whole = rows - rows % 4, inputs - inputs % 4
    for k in range(0, many, 4):
        for j in range(0, whole, 4):
            a0, a1, a2, a3 = x[k, j], x[k, j + 1], x[k, j + 2], x[k, j + 3]
            b0, b1, b2, b3 = x[k + 1, j], x[k + 1, j + 1], x[k + 1, j + 2], x[k + 1, j + 3]
            c0, c1, c2, c3 = x[k + 2, j], x[k + 2, j + 1], x[k + 2, j + 2], x[k + 2, j + 3]
            d0, d1, d2, d3 = x[k + 3, j], x[k + 3, j + 1], x[k + 3, j + 2], x[k + 3, j + 3]
            for i in range(outputs):
                p, q, r, s = w[j, i], w[j + 1, i], w[j + 2, i], w[j + 3, i]
                out[k, i] += a0 * p + a1 * q + a2 * r + a3 * s
                out[k + 1, i] += b0 * p + b1 * q + b2 * r + b3 * s
                out[k + 2, i] += c0 * p + c1 * q + c2 * r + c3 * s
                out[k + 3, i] += d0 * p + d1 * q + d2 * r + d3 * s
        for j in range(whole, inputs):
            for i in range(outputs):
                p = w[j, i]
                out[k, i] += x[k, j] * p
                out[k + 1, i] += x[k + 1, j] * p
                out[k + 2, i] += x[k + 2, j] * p
                out[k + 3, i] += x[k + 3, j] * p
    for k in range(many, rows):
        add_product(x[k], w, out[k])


@compiled
def row_product(x: Any, w: Any, b: Any, out: Any) -> None:
    """out (K, O) = x (K, I) @ w (I, O) + b (O,)."""
    for k in range(x.shape[0]):
        out[k] = b
    add_products(x, w, out)


@compiled
def gelu_layer(x: Any, w: Any, b: Any) -> Any:
    """gelu(x W + b) of one token x (I,) -> (O,); the exact GELU, with erf."""
    out = b.copy()
    add_product(x, w, out)
    for i in range(out.shape[0]):
        out[i] = 0.5 * out[i] * (1 + math.erf(out[i] / math.sqrt(2.0)))
    return out


@compiled
def two_layers(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """gelu(x W_1 + b_1) W_2 + b_2 of one token x (I,) -> (O,)."""
    middle = gelu_layer(x, w1, b1)
    out = b2.copy()
    add_product(middle, w2, out)
    return out


def array(weight: Any) -> np.ndarray:
    """A parameter as a contiguous float32 array."""
    return np.ascontiguousarray(weight.detach().float().cpu().numpy(), np.float32)


def linear(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight (I, O) and bias (O,) of a layer; zeros where it has no bias."""
    bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else array(layer.bias)
    return array(layer.weight.T), bias
