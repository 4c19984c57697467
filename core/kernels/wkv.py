"""Weighted average of values under exponential weights fading at a constant rate (RWKV-4, arXiv 2305.13048).

    y_t = (sum_{s<t} e^{k_s + (t-1-s) w} v_s + e^{u + k_t} v_t) / (the same without v)          each channel

as a recurrence whose sums are kept scaled by exp(-p), p the running maximum of their exponents:

    q = max(p, u + k_t)      y_t = (e^{p-q} a + e^{u+k_t-q} v_t) / (e^{p-q} b + e^{u+k_t-q})
    p' = max(p + w, k_t)     a <- e^{p+w-p'} a + e^{k_t-p'} v_t,   b <- e^{p+w-p'} b + e^{k_t-p'}
"""

import torch
from torch import Tensor

from core.kernels.linear_scan import linear_scan
from core.kernels.precision import widen, without_autocast

State = tuple[Tensor, Tensor, Tensor]
"""a, b, p (B, D); at the start 0, 0, -1e30."""

LOWEST = -1e30


def wkv_step(k: Tensor, v: Tensor, w: Tensor, u: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: k, v (B, D), log decay w <= 0 and bonus u (D,), state -> y (B, D), state."""
    a, b, p = state
    now = u + k
    q = torch.maximum(p, now)
    old, new = (p - q).exp(), (now - q).exp()
    y = (old * a + new * v) / (old * b + new)
    faded = p + w
    p = torch.maximum(faded, k)
    old, new = (faded - p).exp(), (k - p).exp()
    return y, (old * a + new * v, old * b + new, p)


@without_autocast
def wkv_ref(k: Tensor, v: Tensor, w: Tensor, u: Tensor, state: State) -> tuple[Tensor, State]:
    """The definition: one token after another. Shapes as in `wkv`."""
    outputs = []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        y, state = wkv_step(k_t, v_t, w, u, state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@without_autocast
def wkv(
    k: Tensor, v: Tensor, w: Tensor, u: Tensor, state: State, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """Two linear scans under one running maximum.

    y does not depend on the maximum, which therefore takes no gradient except through the final state.

    Args:
        k, v: (B, T, D), T >= 1.
        w: log decay of a step (D,), not positive.
        u: bonus of the current token (D,).
        state: a, b, p before the first token.
        lengths: (B,) in 1..T; the state is that after the last token of each row.

    Returns:
        y (B, T, D) in float32 at least, and the state after the last token.
    """
    k, v, w, u, a, b, p = widen(k, v, w, u, *state)
    fixed = p.detach()
    with torch.no_grad():
        top = running_maximum(k, w, fixed)
        before = torch.cat([fixed.unsqueeze(1), top[:, :-1]], 1)
    keep, take = (before + w - top).exp(), (k - top).exp()
    a, b = ((p - fixed).exp() * part for part in (a, b))
    sums = linear_scan(
        torch.cat([keep, keep], -1), torch.cat([take * v, take], -1), torch.cat([a, b], -1)
    )  # both in one pass: (B, T, 2D)
    num, den = torch.cat([torch.cat([a, b], -1).unsqueeze(1), sums[:, :-1]], 1).chunk(2, -1)
    now = u + k
    q = torch.maximum(before, now.detach())
    old, new = (before - q).exp(), (now - q).exp()
    y = (old * num + new * v) / (old * den + new)

    time = k.shape[1]
    place = torch.arange(time, dtype=k.dtype, device=k.device).unsqueeze(-1)
    if lengths is None:
        ends, sums, top = k.new_tensor(float(time)), sums[:, -1], top[:, -1]
    else:
        rows, ends = torch.arange(len(k), device=k.device), lengths.to(k.dtype).view(-1, 1, 1)
        sums, top = sums[rows, lengths - 1], top[rows, lengths - 1]
    raised = k + (ends - 1 - place) * w
    raised = raised if lengths is None else raised.masked_fill(place >= ends, LOWEST)
    last = torch.maximum(raised.amax(1), p + ends.flatten().unsqueeze(-1) * w)
    a, b = (sums * (top - last).exp().repeat(1, 2)).chunk(2, -1)
    return y, (a, b, last)


def running_maximum(k: Tensor, w: Tensor, p: Tensor) -> Tensor:
    """p_t = max(p_{t-1} + w, k_t) for k (B, T, D), p (B, D): each sweep doubles the tokens looked at."""
    top = torch.cat([torch.maximum(p + w, k[:, 0]).unsqueeze(1), k[:, 1:]], 1)
    reach = 1
    while reach < k.shape[1]:
        top = torch.cat([top[:, :reach], torch.maximum(top[:, reach:], top[:, :-reach] + reach * w)], 1)
        reach *= 2
    return top
