"""The linear recurrence by its definition: one step after another, gradients by autograd."""

import torch
from torch import Tensor


def linear_scan_ref(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t * h_{t-1} + x_t for a, x (B, T, D) and h0 (B, D) -> h (B, T, D)."""
    h, rows = h0, []
    for a_t, x_t in zip(a.unbind(1), x.unbind(1), strict=True):
        h = a_t * h + x_t
        rows.append(h)
    return torch.stack(rows, 1) if rows else x.new_zeros(x.shape)
