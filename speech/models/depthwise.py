"""Depthwise convolution along time of (B, S, D), features last: compiled where no gradient is wanted.

Published layouts give torch (B, D, S), whose transposes cost several times the convolution itself. Here a
block of features stays in the first cache while the taps pass over it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.choice import recording
from core.kernels.jit import compiled

BLOCK = 256
"""Features that are worked at once."""


@compiled
def run(x, taps, before, dilation, out):  # noqa: ANN001, ANN201
    """out (S, D) += sum_k taps (K, D)[k] x (S, D)[s + k dilation - before], zeros beyond the ends."""
    frames, width = x.shape
    count = len(taps)
    for low in range(0, width, BLOCK):
        high = min(width, low + BLOCK)
        for s in range(frames):
            target = out[s, low:high]
            first = max(0, (before - s + dilation - 1) // dilation)
            last = min(count, (frames + before - s + dilation - 1) // dilation)
            for k in range(first, last):
                source, tap = x[s + k * dilation - before, low:high], taps[k, low:high]
                for d in range(high - low):
                    target[d] += tap[d] * source[d]


def compiled_here(x: Tensor) -> bool:
    """Whether the compiled loop may be used: float32 on a CPU, no gradient wanted, no graph recorded."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not recording()


def add_depthwise(
    x: Tensor, weight: Tensor, before: int, start: Tensor | None = None, *, dilation: int = 1
) -> Tensor:
    """start + convolution of x (B, S, D) with weight (D, 1, K), which begins `before` frames in the past."""
    source: Any = x.detach().contiguous().numpy()
    taps = np.ascontiguousarray(weight.detach().numpy()[:, 0].T)
    out = torch.zeros_like(x) if start is None else start.clone(memory_format=torch.contiguous_format)
    target: Any = out.numpy()
    for row, into in zip(source, target, strict=True):
        run(row, taps, before, dilation, into)
    return out
