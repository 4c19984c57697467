"""The definition of the linear recurrence with a small block per channel."""

import torch
from torch import Tensor


def block_scan_ref(a: Tensor, x: Tensor) -> Tensor:
    """h_t = A_t h_{t-1} + x_t per channel, h_0 = 0: a (B, T, n, n, D), x (B, T, n, D) -> h (B, T, n, D)."""
    h, rows = torch.zeros_like(x[:, 0]), []
    for a_t, x_t in zip(a.unbind(1), x.unbind(1), strict=True):
        h = (a_t * h[:, None]).sum(2) + x_t
        rows.append(h)
    return torch.stack(rows, 1)
