"""The transformers of SepFormer on a CPU where no gradient is wanted: the numbers of `sepformer`.

Torch copies a bias into all rows before it multiplies, which costs more than adding it afterwards. Here
products have none: what comes out of one goes on in a single pass with bias, ReLU, residual and the next
norm. Of attention's biases that of keys changes no weight, and that of values passes to what comes out.
"""

from typing import Any

import torch
from torch import Tensor

from core.kernels.jit import compiled
from speech.models.depthwise import array, spread
from speech.models.fused import positive, standing


@compiled
def residual_norm(x, z, bias, gain, shift, eps, low, high, out):  # noqa: ANN001, ANN201
    """x += z + bias, and out = gain norm(x) + shift: (S, D) each."""
    for s in range(low, high):
        row, more, into = x[s], z[s], out[s]
        for d in range(row.size):
            row[d] += more[d] + bias[d]
        mean, factor = standing(row, eps)
        for d in range(row.size):
            into[d] = (row[d] - mean) * factor * gain[d] + shift[d]


def layers(stack: Any, x: Tensor) -> Tensor:
    """All layers and the last norm of a `Layers` on x (B, T, D), which is used up."""
    shape, rows = x.shape, x.contiguous().flatten(0, 1)
    count, width = rows.shape
    norms = [layer.norm1.norm for layer in stack.layers] + [stack.norm.norm]
    normed = norms[0](rows)
    # the same places in every layer: memory that is new to the process is filled by the system first
    together, back = rows.new_empty(count, 3 * width), torch.empty_like(rows)
    hidden = rows.new_empty(count, stack.layers[0].pos_ffn.ffn[0].out_features)
    for layer, following in zip(stack.layers, norms[1:], strict=True):
        attention = layer.self_att
        att, (first, _, _, second) = attention.att, layer.pos_ffn.ffn
        torch.matmul(normed, att.in_proj_weight.T, out=together)
        together[:, :width] += att.in_proj_bias[:width]
        mixed = attention.mixed(together.view(*shape[:2], -1)).view(count, width)
        torch.matmul(mixed, att.out_proj.weight.T, out=back)
        bias = att.out_proj.bias + att.out_proj.weight @ att.in_proj_bias[2 * width :]
        add_and_norm(rows, back, bias, layer.norm2.norm, normed)
        torch.matmul(normed, first.weight.T, out=hidden)
        torch.matmul(positive(hidden, first.bias), second.weight.T, out=back)
        add_and_norm(rows, back, second.bias, following, normed)
    return normed.view(shape)


def add_and_norm(x: Tensor, z: Tensor, bias: Tensor, norm: Any, out: Tensor) -> None:
    """x += z + bias, and out = norm(x), all (S, D)."""
    rows, more, into = x.numpy(), z.numpy(), out.numpy()
    shift, gain, moved = array(bias), array(norm.weight), array(norm.bias)
    spread(
        lambda low, high: residual_norm(rows, more, shift, gain, moved, norm.eps, low, high, into), len(rows)
    )
