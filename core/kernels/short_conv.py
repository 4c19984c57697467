"""Short causal depthwise convolution with SiLU behind it, along tokens or against them: a compiled loop.

    out_i = silu(bias + sum_{j=1..K} weight_j * x_{i-K+j})    channels alone, zeros before the first token

Against them, i counts from the last token on, and so does the result. Without gradients, on a CPU.
"""

import numpy as np
import torch
from torch import Tensor

from core.kernels.vector_math import compiled, part, sigmoid


def short_conv_silu(x: Tensor, channels: int, weight: Tensor, bias: Tensor, backwards: bool) -> Tensor:
    """x (B, T, D) of which the first channels are read, weight (K, C), bias (C,) -> (B, T, C)."""
    out = torch.empty(*x.shape[:2], channels, dtype=x.dtype)
    arrays = [part.detach().to(x.dtype).contiguous().numpy() for part in (x, weight, bias)]
    conv_rows(*arrays, backwards, out.numpy())
    return out


@compiled
def conv_rows(x, weight, bias, backwards, out):  # noqa: ANN001, ANN201
    taps, channels = weight.shape
    batch, time, width = x.shape
    flat, taken, to = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    step = -1 if backwards else 1
    row = np.empty(channels, x.dtype)
    for b in range(batch):
        for t in range(time):
            at = time - 1 - t if backwards else t  # of the newest token that the result knows
            for c in range(channels):
                row[c] = bias[c]
            for j in range(max(0, taps - 1 - t), taps):
                source = b * time + at - step * (taps - 1 - j)
                tap, token = part(taken, j * channels, channels), part(flat, source * width, channels)
                for c in range(channels):
                    row[c] += tap[c] * token[c]
            result = part(to, (b * time + t) * channels, channels)
            for c in range(channels):
                result[c] = row[c] * sigmoid(row[c])
