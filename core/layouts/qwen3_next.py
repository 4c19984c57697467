"""Gated DeltaNet layers in the checkpoint layout of Qwen3-Next.

Published names, for KH key heads of width K and VH value heads of width V, r = VH / KH:

    in_proj_qkvz.weight  (2 KH K + 2 VH V, H)    rows per key head: q K, k K, v r V, z r V
    in_proj_ba.weight    (2 VH, H)               rows per key head: b r, a r
    conv1d.weight        (2 KH K + VH V, 1, W)   channels q;k;v over all heads, no bias
    A_log, dt_bias       (VH,)
    norm.weight          (V,)
    out_proj.weight      (H, VH V)

Ours (`core.units.matrix.gated_delta_net`) keeps flat rows, q;k;v;z;b;a, and the convolution as (W, C).
The published cache holds the last W inputs of the convolution as (B, C, W), and S as ours.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.errors import WeightsError
from core.units.matrix.gated_delta_net import GatedDeltaNet, State

SAME = ("A_log", "dt_bias", "norm.weight")


def gated_delta_net(
    hidden_size: int,
    linear_num_key_heads: int,
    linear_num_value_heads: int,
    linear_key_head_dim: int,
    linear_value_head_dim: int,
    linear_conv_kernel_dim: int = 4,
    rms_norm_eps: float = 1e-6,
) -> GatedDeltaNet:
    """The unit for the settings of a published configuration, by their published names."""
    return GatedDeltaNet(
        hidden_size,
        hidden_size,
        heads=linear_num_value_heads,
        key_heads=linear_num_key_heads,
        key_size=linear_key_head_dim,
        value_size=linear_value_head_dim,
        conv_width=linear_conv_kernel_dim,
        norm_eps=rms_norm_eps,
    )


def from_published(weights: Mapping[str, Tensor], unit: GatedDeltaNet) -> dict[str, Tensor]:
    """Published tensors of one layer -> the state dict of `unit`.

    Raises:
        WeightsError: a tensor is missing, or its shape is not that of the unit.
    """
    expected = published_shapes(unit)
    for name, shape in expected.items():
        if name not in weights:
            raise WeightsError(f"{name} is missing; a Gated DeltaNet layer has {', '.join(expected)}.")
        if tuple(weights[name].shape) != shape:
            raise WeightsError(f"{name} is {tuple(weights[name].shape)} in the file, {shape} in the model.")
    ours = {name: weights[name] for name in SAME}
    qkvz = flat(weights["in_proj_qkvz.weight"], packed_widths(unit), unit.key_heads)
    ba = flat(weights["in_proj_ba.weight"], shared_widths(unit), unit.key_heads)
    ours["qkvzba.weight"] = torch.cat([qkvz, ba])
    ours["conv.weight"] = weights["conv1d.weight"].squeeze(1).t()
    ours["output.weight"] = weights["out_proj.weight"]
    return ours


def to_published(unit: GatedDeltaNet) -> dict[str, Tensor]:
    """The weights of `unit` by their published names."""
    ours: dict[str, Tensor] = dict(unit.named_parameters())
    qkvz, ba = ours["qkvzba.weight"].tensor_split([-2 * unit.heads])
    return {name: ours[name] for name in SAME} | {
        "in_proj_qkvz.weight": packed(qkvz, packed_widths(unit), unit.key_heads),
        "in_proj_ba.weight": packed(ba, shared_widths(unit), unit.key_heads),
        "conv1d.weight": ours["conv.weight"].t().unsqueeze(1),
        "out_proj.weight": ours["output.weight"],
    }


def from_published_cache(conv_state: Tensor, recurrent_state: Tensor) -> State:
    """conv_state (B, C, W), recurrent_state (B, VH, K, V) -> the state of our unit."""
    return conv_state.transpose(1, 2), recurrent_state


def to_published_cache(state: State) -> tuple[Tensor, Tensor]:
    """The state of our unit -> conv_state (B, C, W), recurrent_state (B, VH, K, V)."""
    window, memory = state
    return window.transpose(1, 2), memory


def packed_widths(unit: GatedDeltaNet) -> list[int]:
    """Rows of q, k, v, z of one key head."""
    values = unit.heads // unit.key_heads * unit.value_size
    return [unit.key_size, unit.key_size, values, values]


def shared_widths(unit: GatedDeltaNet) -> list[int]:
    """Rows of b, a of one key head."""
    return [unit.heads // unit.key_heads] * 2


def flat(weight: Tensor, widths: list[int], groups: int) -> Tensor:
    """Rows packed per group -> one part after another, each over all groups."""
    parts = weight.unflatten(0, (groups, -1)).split(widths, 1)
    return torch.cat([part.flatten(0, 1) for part in parts])


def packed(weight: Tensor, widths: list[int], groups: int) -> Tensor:
    """The inverse of `flat`."""
    parts = weight.split([width * groups for width in widths])
    return torch.cat([part.unflatten(0, (groups, -1)) for part in parts], 1).flatten(0, 1)


def published_shapes(unit: GatedDeltaNet) -> dict[str, tuple[int, ...]]:
    """Shapes of the published tensors of a layer as wide as `unit`."""
    return {name: tuple(weight.shape) for name, weight in to_published(unit).items()}
