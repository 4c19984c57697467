"""A linear model that learns while it reads, by mini-batches of tokens (Sun et al. 2024, arXiv 2407.04620).

A head's model is W (K, K), b (K). Within a mini-batch every gradient is taken where the mini-batch began, so
its tokens are dense products; token i answers with what the tokens up to it have taught:

    Z_j = k_j W + b,   g_j = d/dZ 1/2 |LN(Z_j) - (v_j - k_j)|^2,   LN(z) = gain * (z - mean) / std + offset
    G_i = sum_{j<=i} l_j k_j^T g_j,   s_i = sum_{j<=i} l_j g_j
    o_i = q_i (W - a_i G_i) + b - a_i s_i
    at its end, with the last a:   W <- W - a G,  b <- b - a s,  G, s <- 0

`a` belongs to the token that reads, `l` to the token that teaches. The state (W, b, G, s) and the number of
tokens that the open mini-batch has seen may be handed on at any token.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-6


class Learned(NamedTuple):
    """What a sequence has taught so far."""

    weight: Tensor
    """(B, h, K, K) where the open mini-batch began."""
    bias: Tensor
    """(B, h, K)"""
    open_weight: Tensor
    """(B, h, K, K) G of the open mini-batch."""
    open_bias: Tensor
    """(B, h, K) s of the open mini-batch."""


def inner_gradient(z: Tensor, target: Tensor, gain: Tensor, offset: Tensor, eps: float = EPS) -> Tensor:
    """The gradient of 1/2 |LN(z) - target|^2 with respect to z (.., K)."""
    middle = z - z.mean(-1, keepdim=True)
    scale = torch.rsqrt(middle.square().mean(-1, keepdim=True) + eps)
    normed = middle * scale
    grad = (normed * gain + offset - target) * gain
    along = (grad * normed).mean(-1, keepdim=True)
    return (grad - grad.mean(-1, keepdim=True) - normed * along) * scale


def ttt_step(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, rate: Tensor, gain: Tensor, offset: Tensor, state: Learned,
    last: Tensor,
) -> tuple[Tensor, Learned]:  # fmt: skip
    """One token, the definition: q, k, v (B, h, K), a, rate (B, h), gain, offset (h, K) -> o (B, h, K).

    last: (B,) whether the token ends its mini-batch.
    """
    z = (k[..., None, :] @ state.weight).squeeze(-2) + state.bias
    g = inner_gradient(z, v - k, gain, offset)
    taught = rate[..., None] * g
    open_weight = state.open_weight + k[..., :, None] * taught[..., None, :]
    open_bias = state.open_bias + taught
    weight = state.weight - a[..., None, None] * open_weight
    bias = state.bias - a[..., None] * open_bias
    o = (q[..., None, :] @ weight).squeeze(-2) + bias
    end, end_bias = last[:, None, None, None], last[:, None, None]
    zero = torch.zeros_like(open_weight), torch.zeros_like(open_bias)
    return o, Learned(
        torch.where(end, weight, state.weight),
        torch.where(end_bias, bias, state.bias),
        torch.where(end, zero[0], open_weight),
        torch.where(end_bias, zero[1], open_bias),
    )


def ttt_scan(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, rate: Tensor, gain: Tensor, offset: Tensor, state: Learned,
    size: int, place: int = 0, eps: float = EPS, ends: list[int] | None = None,
) -> tuple[Tensor, Learned]:  # fmt: skip
    """A sequence by whole mini-batches: q, k, v (B, h, T, K), a, rate (B, h, T) -> o (B, h, T, K), state.

    Args:
        size: tokens of a mini-batch.
        place: tokens that the open one has seen already.
        ends: falling lengths of the rows; `rate` is zero on padding. A row that ended is left out of what
            follows: o is zero there, and its state is that after its last token.
    """
    gain, offset = gain[:, None], offset[:, None]  # (h, 1, K)
    outputs, ended, total, active = [], [], q.shape[2], q.shape[0]
    cuts = [0, *range(min(size - place, total), total, size), total]
    widths = [stop - start for start, stop in pairwise(cuts)]
    pieces = zip(*(part.split(widths, 2) for part in (q, k, v, a[..., None], rate[..., None])), strict=True)
    for stop, piece in zip(cuts[1:], pieces, strict=True):
        if ends is not None:
            active, state = left(ends, stop - piece[0].shape[2], active, state, ended)
        qs, ks, vs, read, teach = (part[:active] for part in piece)
        weight, bias, open_weight, open_bias = state
        taught = teach * inner_gradient(ks @ weight + bias[:, :, None], vs - ks, gain, offset, eps)
        before = qs @ open_weight + open_bias[:, :, None]
        own = (qs @ ks.mT).tril() @ taught + taught.cumsum(2)
        o = qs @ weight + bias[:, :, None] - read * (before + own)
        outputs.append(F.pad(o, (0, 0) * 3 + (0, q.shape[0] - active)) if active < q.shape[0] else o)
        state = Learned(weight, bias, open_weight + ks.mT @ taught, open_bias + taught.sum(2))
        place += piece[0].shape[2]
        if place == size:
            if ends is not None:  # the mini-batch of a row that ended inside it stays open
                active, state = left(ends, stop - 1, active, state, ended)
            last = read[:active, :, -1, 0]  # (B, h)
            weight, bias = closed(state, last)
            state = Learned(weight, bias, torch.zeros_like(weight), torch.zeros_like(bias))
            place = 0
    y = torch.cat(outputs, 2)
    return y, Learned(*map(torch.cat, zip(state, *ended[::-1], strict=True))) if ended else state


def left(
    ends: list[int], passed: int, active: int, state: Learned, ended: list[Learned]
) -> tuple[int, Learned]:
    """How many of the rows go on after `passed` tokens, and their state; that of the others is put aside."""
    going = sum(end > passed for end in ends[:active])
    if going == active:
        return active, state
    ended.append(Learned(*(part[going:] for part in state)))
    return going, Learned(*(part[:going] for part in state))


def closed(state: Learned, a: Tensor) -> tuple[Tensor, Tensor]:
    """W and b with the open mini-batch taken in, `a` (B, h) of its last token."""
    return state.weight - a[..., None, None] * state.open_weight, state.bias - a[..., None] * state.open_bias
