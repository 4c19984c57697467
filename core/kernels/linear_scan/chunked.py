"""The linear recurrence in plain tensor code, in two levels: any device, any order of derivative.

The sequence is cut into n chunks of length L, both near sqrt(T). Inside a chunk, with P_0 = 1 and u_0 = 0,

    P_t = a_t * P_{t-1}        u_t = a_t * u_{t-1} + x_t        (all chunks at once, L steps)
    S_c = P_L * S_{c-1} + u_L                                   (from chunk to chunk, n steps)
    h_t = u_t + P_t * S_{c-1}

Nothing is divided, so decays may underflow to zero or be zero.
"""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_scan_chunked(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t * h_{t-1} + x_t for a, x (B, T, D) and h0 (B, D) -> h (B, T, D)."""
    batch, time, width = x.shape
    if time == 0:
        return torch.zeros_like(x)
    length = isqrt(time - 1) + 1
    chunks = -(-time // length)
    short = chunks * length - time
    a = F.pad(a, (0, 0, 0, short)).view(batch, chunks, length, width)
    x = F.pad(x, (0, 0, 0, short)).view(batch, chunks, length, width)
    decays, inputs = a.unbind(2), x.unbind(2)
    products, partial = [decays[0]], [inputs[0]]
    for a_t, x_t in zip(decays[1:], inputs[1:], strict=True):
        products.append(a_t * products[-1])
        partial.append(a_t * partial[-1] + x_t)
    state, starts = h0, []
    for whole, last in zip(products[-1].unbind(1), partial[-1].unbind(1), strict=True):
        starts.append(state)
        state = whole * state + last
    begin = torch.stack(starts, 1)[:, :, None]  # (B, n, 1, D)
    h = torch.stack(partial, 2) + torch.stack(products, 2) * begin
    return h.reshape(batch, chunks * length, width)[:, :time].contiguous()


def forward(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    """The forward pass as the other backends give it: no graph, a fresh result."""
    with torch.no_grad():
        return linear_scan_chunked(a, x, h0).contiguous()


def backward(a: Tensor, h: Tensor, h0: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da, dx, dh0 from the gradient of h: the adjoint recurrence is the same scan from right to left."""
    with torch.no_grad():
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        dx = linear_scan_chunked(later.conj().flip(1), grad.flip(1), torch.zeros_like(h0)).flip(1)
        before = torch.cat([h0[:, None], h[:, :-1]], 1)
        return dx * before.conj(), dx, dx[:, 0] * a[:, 0].conj()
