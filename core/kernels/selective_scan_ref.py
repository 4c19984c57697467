"""The definition of the selective scan: one token after another. Every fast version is tested against it."""

import torch
from torch import Tensor


def selective_scan_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """h = exp(delta A) h + delta B u, y = sum_n C h (twice its real part when A is complex).

    u, delta (B, T, D); A (D, N); B, C (B, T, G, N), channel d reading group d * G // D, or (D, N);
    state (B, D, N) -> y (B, T, D), state.
    """
    channels = A.shape[0]
    b, c = per_channel(B, channels, u.shape[1]), per_channel(C, channels, u.shape[1])
    outputs = []
    for u_t, delta_t, b_t, c_t in zip(u.unbind(1), delta.unbind(1), b, c, strict=True):
        step = delta_t.unsqueeze(-1)  # (B, D, 1)
        state = torch.exp(step * A) * state + step * u_t.unsqueeze(-1) * b_t
        y = (state * c_t).sum(-1)
        outputs.append(2 * y.real if y.is_complex() else y)
    return torch.stack(outputs, 1), state


def per_channel(part: Tensor, channels: int, time: int) -> tuple[Tensor, ...]:
    """B or C as a sequence of (B, D, N) or, where it is constant, of (D, N)."""
    if part.ndim == 2:
        return (part,) * time
    return tuple(part_t.repeat_interleave(channels // part.shape[2], 1) for part_t in part.unbind(1))
