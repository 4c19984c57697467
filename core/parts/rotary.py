"""Rotary positions: channel pairs turn by an angle, so that q_t . k_s depends on t - s."""

import torch
from torch import Tensor


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn channel pairs (i, i + n) of x (.., D) by angles (.., n); channels beyond 2 n stay.

    Angles come in float64: in float32 they would be off by a tenth of a radian after a million tokens.
    """
    half = angles.shape[-1]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)
