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

from typing import NamedTuple

import torch
from torch import Tensor

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
    size: int, place: int = 0, eps: float = EPS,
) -> tuple[Tensor, Learned]:  # fmt: skip
    """A sequence by whole mini-batches: q, k, v (B, h, T, K), a, rate (B, h, T) -> o (B, h, T, K), state.

    Args:
        size: tokens of a mini-batch.
        place: tokens that the open one has seen already.
    """
    weight, bias, open_weight, open_bias = state
    gain, offset = gain[:, None], offset[:, None]  # (h, 1, K)
    outputs, start, total = [], 0, q.shape[2]
    while start < total:
        stop = min(total, start + size - place)
        qs, ks, vs = q[:, :, start:stop], k[:, :, start:stop], v[:, :, start:stop]
        read, teach = a[:, :, start:stop, None], rate[:, :, start:stop, None]
        taught = teach * inner_gradient(ks @ weight + bias[:, :, None], vs - ks, gain, offset, eps)
        before = qs @ open_weight + open_bias[:, :, None]
        own = (qs @ ks.mT).tril() @ taught + taught.cumsum(2)
        outputs.append(qs @ weight + bias[:, :, None] - read * (before + own))
        open_weight = open_weight + ks.mT @ taught
        open_bias = open_bias + taught.sum(2)
        place += stop - start
        if place == size:
            end = read[:, :, -1]  # (B, h, 1)
            weight, bias = weight - end[..., None] * open_weight, bias - end * open_bias
            open_weight, open_bias = torch.zeros_like(open_weight), torch.zeros_like(open_bias)
            place = 0
        start = stop
    return torch.cat(outputs, 2), Learned(weight, bias, open_weight, open_bias)


def closed(state: Learned, a: Tensor) -> tuple[Tensor, Tensor]:
    """W and b with the open mini-batch taken in, `a` (B, h) of its last token."""
    return state.weight - a[..., None, None] * state.open_weight, state.bias - a[..., None] * state.open_bias
