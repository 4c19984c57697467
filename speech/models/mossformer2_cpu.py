"""The layers of MossFormer2 on a CPU, for one recording and no gradient: the numbers of `mossformer2`.

Products are torch's; what lies between two of them is one compiled pass (`fused`). Norms without their gains
go into the products: a gain that is one number is applied to what comes out, one for each feature is folded
into the weights. Values and gates lie side by side from their product to the gate.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from speech.models import fused
from speech.models.depthwise import array, spread, taps_of


def attention(layer: Any, x: Tensor) -> Tensor:
    """A `GatedAttention` that sees all groups: x (S, D)."""
    frames, g = len(x), layer.group
    padded = frames + -frames % g
    norm = layer.to_hidden.mdl[0]
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    source, into = array(x), y.numpy()
    spread(lambda low, high: fused.shifted_norm(source, norm.scale, norm.eps, low, high, into), frames)
    hidden = conv_block(layer.to_hidden, y, rows=padded)  # v and u side by side, as the attention wants them
    heads = queries_and_keys(layer, conv_block(layer.to_qk, y), padded)
    quad_q, lin_q, quad_k, lin_k = heads
    quad_q, quad_k = quad_q.unflatten(0, (-1, g)), quad_k.unflatten(0, (-1, g))
    weights = torch.matmul(quad_q, quad_k.transpose(-1, -2))  # (G, g, g)
    rows = weights.view(-1, g).numpy()
    spread(lambda low, high: fused.squared(rows, np.float32(1 / g), low, high), len(rows))
    known = hidden.new_zeros(lin_k.shape[1], hidden.shape[1])  # (D, 2 H)
    for key, values in zip(lin_k.split(g), hidden.split(g), strict=True):
        known.addmm_(key.T, values)
    known.div_(frames)
    norm = layer.to_out.mdl[0]
    gated = x.new_empty(frames, hidden.shape[1] // 2)
    groups = zip(lin_q.split(g), weights, hidden.split(g), gated.split(g), strict=True)
    for q, local, values, out in groups:  # a group of what is seen stays in the cache until it is gated
        seen = torch.matmul(q, known).addmm_(local, values)
        a, h, into = seen.numpy(), values.numpy(), out.numpy()
        spread(
            lambda low, high, a=a, h=h, into=into: fused.gated_norm(
                a, h, norm.scale, norm.eps, low, high, into
            ),
            len(into),
        )
    return conv_block(layer.to_out, gated, x)


def conv_block(block: Any, normed: Tensor, extra: Tensor | None = None, rows: int = 0) -> Tensor:
    """A `ConvBlock` after its norm, whose gain is one number; plus `extra`; zeros beyond, up to `rows`."""
    norm, linear, _, depthwise, _ = block.mdl
    z, weight = F.linear(normed, linear.weight), depthwise.sequential[1].conv.weight
    return silu_depthwise(z, norm.g.item(), linear.bias, weight, depthwise.pad[0], extra, rows)


def silu_depthwise(
    z: Tensor,
    gain: float,
    bias: Tensor,
    weight: Tensor,
    before: int,
    extra: Tensor | None = None,
    rows: int = 0,
) -> Tensor:
    """y + convolution of y = silu(gain z + bias); z (S, D)."""
    frames, scale = len(z), np.float32(gain)
    taps = taps_of(weight)
    taps[before] += 1  # y itself
    out = z.new_empty(max(rows, frames), z.shape[1])
    out[frames:] = 0
    source, shift, into = array(z)[:, None], array(bias), out.numpy()[:, None]
    each = extra is not None
    more = array(extra)[:, None] if each else np.zeros((1, 1, z.shape[1]), np.float32)
    spread(
        lambda low, high: fused.silu_depthwise(
            source, scale, shift, taps, before, more, each, low, high, into
        ),
        frames,
    )
    return out


def queries_and_keys(layer: Any, z: Tensor, rows: int) -> Tensor:
    """Four vectors of each frame, turned by its place: (4, rows, D), zeros beyond the frames of z."""
    offsets, frames = layer.qk_offset_scale, len(z)
    angle = torch.arange(frames, dtype=z.dtype)[:, None] * layer.rotary_pos_emb.freqs
    out = z.new_empty(len(offsets.gamma), rows, z.shape[1])
    out[:, frames:] = 0
    source, into = array(z), out.numpy()
    gamma, beta, cosine, sine = (
        array(part) for part in (offsets.gamma, offsets.beta, angle.cos(), angle.sin())
    )
    spread(lambda low, high: fused.turned(source, gamma, beta, cosine, sine, low, high, into), frames)
    return out


def memory(block: Any, x: Tensor) -> Tensor:
    """A `RecurrentBlock`: x (S, D)."""
    first, prelu = block.conv1
    z = F.linear(x, first.weight[..., 0])
    unit = block.gated_fsmn
    c, normed = torch.empty_like(z), torch.empty_like(z)
    inner = unit.to_u.mdl[0]
    source, slope, into, inside = array(z), np.float32(prelu.weight.item()), c.numpy(), normed.numpy()
    bias, gain, shift = (array(part) for part in (first.bias, block.norm1.weight, block.norm1.bias))
    eps = block.norm1.eps
    spread(
        lambda low, high: fused.entered(
            source, bias, slope, gain, shift, eps, inner.eps, low, high, into, inside
        ),
        len(z),
    )
    h = both_blocks(unit, normed)
    y, scale, moved, slopes = unit.fsmn.remembered(h[:, : z.shape[1]])
    out = torch.empty_like(z)
    target, last, own, rows = out.numpy(), block.norm2, c.numpy(), h.numpy()
    gain, shift = array(last.weight), array(last.bias)
    spread(
        lambda low, high: fused.left(
            rows, y, scale, moved, slopes, own, gain, shift, last.eps, low, high, target
        ),
        len(z),
    )
    z = F.linear(out, block.conv2.weight[..., 0])
    source, more, bias = z.numpy(), array(x), array(block.conv2.bias)
    spread(lambda low, high: fused.added(source, more, bias, low, high), len(z))
    return z


def both_blocks(unit: Any, normed: Tensor) -> Tensor:
    """`to_u` and `to_v` of a `GatedUnit` in one: (S, D) without their norms' gains -> (S, 2 D)."""
    parts = [block.mdl for block in (unit.to_u, unit.to_v)]
    weight = torch.cat([linear.weight * norm.weight for norm, linear, *_ in parts])
    bias = torch.cat([linear.bias + linear.weight @ norm.bias for norm, linear, *_ in parts])
    taps = torch.cat([depthwise.sequential[1].conv.weight for *_, depthwise, _ in parts])
    return silu_depthwise(F.linear(normed, weight), 1.0, bias, taps, parts[0][3].pad[0])
