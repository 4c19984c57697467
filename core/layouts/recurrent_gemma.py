"""RecurrentGemma (Griffin) layers in two published checkpoint layouts.

`transformers` names, for hidden width H, recurrent width W, h heads and a convolution over K tokens:

    {temporal,channel}_pre_norm.weight (H,)    multiplies by 1 + weight
    mlp_block.{gate,up,down}_proj              with biases, inner width intermediate_size // 2
    temporal_block.{linear_x, linear_y, linear_out, conv_1d}, conv_1d.weight (W, 1, K)
    temporal_block.rg_lru.{recurrent_param, input_gate_weight, input_gate_bias, recurrent_gate_weight, ..}
    temporal_block.{q,k,v,o}_proj              in attention layers; only o_proj has a bias

The `recurrentgemma` package names the recurrence `a_param, input_gate.{w,b}, a_gate.{w,b}` and keeps the
convolution as `conv_1d.w` (K, W), which is ours. A published module state holds the last K - 1 inputs of the
convolution as (B, W, K - 1) and h (B, W); ours keeps K inputs, and whether a token was seen.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.blocks.griffin import RecurrentBlock, ResidualBlock
from core.errors import WeightsError
from core.units.contract import Unit
from core.units.diagonal.rg_lru import State as RecurrentState
from core.units.window.attention import LocalAttention

TRANSFORMERS = {
    "recurrent_param": "decay",
    "conv_1d.weight": "conv.weight",
    "conv_1d.bias": "conv.bias",
}
RECURRENTGEMMA = {
    "a_param": "decay",
    "input_gate.w": "input_gate_weight",
    "input_gate.b": "input_gate_bias",
    "a_gate.w": "recurrent_gate_weight",
    "a_gate.b": "recurrent_gate_bias",
    "conv_1d.w": "conv.weight",
    "conv_1d.b": "conv.bias",
}


def recurrent_block(
    hidden_size: int, num_attention_heads: int, lru_width: int | None = None, conv1d_width: int = 4
) -> RecurrentBlock:
    """The recurrent block for the settings of a published configuration, by their published names."""
    return RecurrentBlock(
        hidden_size, hidden_size, lru_size=lru_width, heads=num_attention_heads, conv_width=conv1d_width
    )


def attention(
    hidden_size: int,
    num_attention_heads: int,
    num_key_value_heads: int | None = None,
    attention_window_size: int = 2048,
    rope_theta: float = 1e4,
) -> LocalAttention:
    """The attention for the settings of a published configuration, by their published names."""
    return LocalAttention(
        hidden_size,
        hidden_size,
        heads=num_attention_heads,
        key_heads=num_attention_heads if num_key_value_heads is None else num_key_value_heads,
        window=attention_window_size,
        theta=rope_theta,
    )


def decoder_layer(temporal: Unit, intermediate_size: int, rms_norm_eps: float = 1e-6) -> ResidualBlock:
    """A residual layer around one of the two; the published size counts both halves of the gated network."""
    return ResidualBlock(temporal, intermediate_size // 2, eps=rms_norm_eps)


def from_published(
    weights: Mapping[str, Tensor], unit: Unit, names: Mapping[str, str] = TRANSFORMERS
) -> dict[str, Tensor]:
    """Published tensors of one layer or block -> the state dict of `unit`.

    Raises:
        WeightsError: a tensor is missing or left over, or its shape is not that of the unit.
    """
    expected = to_published(unit, names)
    if set(expected) != set(weights):
        odd = sorted(set(expected) ^ set(weights))
        raise WeightsError(f"{', '.join(odd)}: in the file or in the model, not in both.")
    for name, ours in expected.items():
        if weights[name].shape != ours.shape:
            raise WeightsError(
                f"{name} is {tuple(weights[name].shape)} in the file, {tuple(ours.shape)} in the model."
            )
    ours = {
        renamed(name, names): weight.squeeze(1).t() if name.endswith("conv_1d.weight") else weight
        for name, weight in weights.items()
    }
    # our two gates are one product
    for name in [name for name in ours if "input_gate_" in name]:
        both = ours.pop(name), ours.pop(name.replace("input_gate_", "recurrent_gate_"))
        ours[name.replace("input_gate_", "gate_")] = torch.cat(both, -1)
    return ours


def to_published(unit: Unit, names: Mapping[str, str] = TRANSFORMERS) -> dict[str, Tensor]:
    """The weights of `unit` by their published names."""
    ours: dict[str, Tensor] = {}
    for name, weight in unit.named_parameters():
        if name.endswith(("gate_weight", "gate_bias")):
            for gate, half in zip(("input_gate_", "recurrent_gate_"), weight.chunk(2, -1), strict=True):
                ours[name.replace("gate_", gate)] = half
        else:
            ours[name] = weight
    back = {mine: published for published, mine in names.items()}
    published = {renamed(name, back): weight for name, weight in ours.items()}
    return {
        name: weight.t().unsqueeze(1) if name.endswith("conv_1d.weight") else weight
        for name, weight in published.items()
    }


def renamed(name: str, names: Mapping[str, str]) -> str:
    """The name with the ending that the table knows replaced."""
    for ending, other in names.items():
        if name == ending or name.endswith(f".{ending}"):
            return name.removesuffix(ending) + other
    return name


def from_published_cache(conv_state: Tensor, recurrent_state: Tensor) -> tuple[Tensor, RecurrentState]:
    """conv_state (B, W, K - 1) and recurrent_state (B, W), after some token -> the state of our block."""
    window = torch.cat([torch.zeros_like(conv_state[..., :1]), conv_state], -1).transpose(1, 2)
    seen = torch.ones(len(conv_state), dtype=torch.bool, device=conv_state.device)
    return window, (recurrent_state, seen)


def to_published_cache(state: tuple[Tensor, RecurrentState]) -> tuple[Tensor, Tensor]:
    """The state of our recurrent block -> conv_state (B, W, K - 1), recurrent_state (B, W)."""
    window, (h, _) = state
    return window[:, 1:].transpose(1, 2), h
