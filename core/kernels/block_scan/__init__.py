"""Linear recurrence whose transition is a small block per channel; the linear solve of a Newton iteration.

    h_t = A_t h_{t-1} + x_t,  h_0 = 0        per channel: A_t (n, n), h_t and x_t (n)

`block_scan_ref` is the definition. Channels are the last axis, so that all of them do the same at once.
Nothing here is differentiable by autograd: `core.kernels.newton` calls it on both of its ways.
"""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.choice import version


def block_scan(a: Tensor, x: Tensor, *, reverse: bool = False) -> Tensor:
    """a (B, T, n, n, D), x (B, T, n, D), T >= 1 -> h (B, T, n, D).

    With `reverse` the adjoint, from right to left: h_t = A_{t+1}^T h_{t+1} + x_t.
    """
    if reverse:
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1).transpose(2, 3)
        return block_scan(later.flip(1), x.flip(1)).flip(1)
    fast = version(__name__, x.device.type) if x.is_cpu or x.shape[2] == 2 else None
    return block_scan_chunked(a, x) if fast is None else fast.forward(a, x)


def block_scan_chunked(a: Tensor, x: Tensor) -> Tensor:
    """In two levels of about sqrt(T) steps, as `core.kernels.linear_scan.chunked`, on any device."""
    batch, time, n, width = x.shape
    length = isqrt(time - 1) + 1
    chunks = -(-time // length)
    short = chunks * length - time
    a = F.pad(a, (0, 0) * 3 + (0, short)).view(batch, chunks, length, n, n, width)
    x = F.pad(x, (0, 0) * 2 + (0, short)).view(batch, chunks, length, n, width)
    blocks, inputs = a.unbind(2), x.unbind(2)
    products, partial = [blocks[0]], [inputs[0]]
    for a_t, x_t in zip(blocks[1:], inputs[1:], strict=True):
        products.append((a_t.unsqueeze(4) * products[-1].unsqueeze(2)).sum(3))
        partial.append(applied(a_t, partial[-1]) + x_t)
    state, starts = torch.zeros_like(x[:, 0, 0]), []
    for whole, last in zip(products[-1].unbind(1), partial[-1].unbind(1), strict=True):
        starts.append(state)
        state = applied(whole, state) + last
    begin = torch.stack(starts, 1).unsqueeze(2)
    h = torch.stack(partial, 2) + applied(torch.stack(products, 2), begin)
    return h.view(batch, chunks * length, n, width)[:, :time]


def applied(block: Tensor, vector: Tensor) -> Tensor:
    """Blocks (.., n, n, D) on vectors (.., n, D)."""
    return (block * vector.unsqueeze(-3)).sum(-2)
