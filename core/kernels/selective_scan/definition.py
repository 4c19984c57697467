"""The definition of the selective scan: one token after another. Every fast version is tested against it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """h = exp(s A) h + s B u, s = softplus(delta), y = sum_n C h (twice its real part when A is complex).

    u, delta (B, T, D); A (D, N); B, C (B, T, G, N), channel d reading group d * G // D, or (D, N);
    state (B, D, N) -> y (B, T, D), state.
    """
    channels, time = u.shape[2], u.shape[1]
    b, c = per_channel(B, channels, time), per_channel(C, channels, time)
    outputs = []
    for u_t, delta_t, b_t, c_t in zip(u.unbind(1), delta.unbind(1), b, c, strict=True):
        y, state = selective_update(u_t, delta_t, A, b_t, c_t, state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


def selective_update(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: u, delta (B, D); A (D, N); B, C broadcast to state (B, D, N) -> y (B, D), state."""
    step = F.softplus(delta).unsqueeze(-1)  # (B, D, 1)
    state = torch.addcmul(torch.exp(step * A) * state, step * u.unsqueeze(-1), B)
    y = (state * C).sum(-1)
    return (2 * y.real if y.is_complex() else y), state


def per_channel(part: Tensor, channels: int, time: int) -> tuple[Tensor, ...]:
    """B or C as a sequence of (B, D, N), (B, 1, N) where all share it, or (D, N) where it is constant."""
    if part.ndim == 2:
        return (part,) * time
    groups = part.shape[2]
    return (part if groups == 1 else part.repeat_interleave(channels // groups, 2)).unbind(1)
