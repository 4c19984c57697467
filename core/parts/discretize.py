"""From continuous to discrete time: x' = A x + B u held constant over a step dt.

Zero-order hold of a diagonal system: A_bar = exp(dt A), B_bar = (exp(dt A) - 1) / A * B.
"""

import math

import torch
from torch import Tensor


def zero_order_hold(a: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """log A_bar and the factor of B for complex poles a and steps dt.

    exp(z) - 1 is computed without taking nearly equal numbers from each other: steps begin at 0.001, where
    float32 would lose three digits.
    """
    z = dt * a
    grow, turn = z.real, z.imag
    less_one = torch.expm1(grow) * turn.cos() - 2 * (turn / 2).sin().square()
    return z, torch.complex(less_one, grow.exp() * turn.sin()) / a


def powers(log_a: Tensor, count: int) -> Tensor:
    """a^0, a^1, ... along a new last axis, by doubling: (...) -> (..., count)."""
    known = torch.ones_like(log_a)[..., None]
    while known.shape[-1] < count:
        size = known.shape[-1]
        known = torch.cat([known, known[..., : count - size] * power(log_a, size)[..., None]], -1)
    return known


def power(log_a: Tensor, exponent: int | Tensor) -> Tensor:
    """a^exponent; an angle of thousands of turns has no digits left in single precision, so in double."""
    return (exponent * log_a.to(torch.complex128)).exp().to(log_a.dtype)


def log_uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """log of step sizes spread evenly over orders of magnitude."""
    return torch.empty(shape).uniform_(math.log(low), math.log(high))
