"""The transformers of SepFormer on a CPU where no gradient is wanted: the numbers of `sepformer`.

Torch copies a bias into all rows before it multiplies, which costs more than adding it afterwards. Here
products have none: what comes out of one goes on in a single pass with bias, ReLU, residual and the next
norm. Of attention's biases that of keys changes no weight, and that of values passes to what comes out.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

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
    x = x.contiguous()
    norms = [layer.norm1.norm for layer in stack.layers] + [stack.norm.norm]
    normed = norms[0](x)
    for layer, following in zip(stack.layers, norms[1:], strict=True):
        attention = layer.self_att
        att = attention.att
        width = x.shape[2]
        z = F.linear(normed, att.in_proj_weight)
        z[..., :width] += att.in_proj_bias[:width]
        mixed = F.linear(attention.mixed(z), att.out_proj.weight)
        bias = att.out_proj.bias + att.out_proj.weight @ att.in_proj_bias[2 * width :]
        add_and_norm(x, mixed, bias, layer.norm2.norm, normed)
        first, _, _, second = layer.pos_ffn.ffn
        hidden = F.linear(normed, first.weight)
        positive(hidden.view(-1, hidden.shape[2]), first.bias)
        add_and_norm(x, F.linear(hidden, second.weight), second.bias, following, normed)
    return normed


def add_and_norm(x: Tensor, z: Tensor, bias: Tensor, norm: Any, out: Tensor) -> None:
    """x += z + bias, and out = norm(x), all (B, T, D)."""
    rows, more, into = (array(part).reshape(-1, x.shape[2]) for part in (x, z, out))
    shift, gain, moved = array(bias), array(norm.weight), array(norm.bias)
    spread(
        lambda low, high: residual_norm(rows, more, shift, gain, moved, norm.eps, low, high, into), len(rows)
    )
