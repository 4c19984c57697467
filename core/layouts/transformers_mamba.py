"""Mamba and Mamba-2 mixers in the checkpoint layout of `transformers` (and of mamba_ssm, which shares it).

Published names of a Mamba mixer, for D inner channels, state width N, rank R and a convolution over K tokens:

    in_proj.weight (2 D, H)    rows x;z         x_proj.weight (R + 2 N, D)    rows dt;B;C
    conv1d.weight (D, 1, K)    conv1d.bias      dt_proj.weight (D, R), dt_proj.bias
    A_log (D, N)    D (D,)     out_proj.weight (H, D)

and of a Mamba-2 mixer with h heads and G groups:

    in_proj.weight (2 D + 2 G N + h, H)    rows z;x;B;C;dt       conv1d over x;B;C, with its bias
    dt_bias, A_log, D (h,)    norm.weight (D,)    out_proj.weight (H, D)

Ours has the same names and rows; only the convolution is (K, C) under `conv`. A published cache holds the
last K inputs of the convolution as (B, C, K), and the state as (B, D, N), in Mamba-2 as (B, h, P, N).
"""

import math
from collections.abc import Mapping

from torch import Tensor

from core.errors import WeightsError
from core.units.diagonal.mamba import Mamba
from core.units.matrix.mamba2 import Mamba2

State = tuple[Tensor, Tensor]


def mamba(
    hidden_size: int,
    state_size: int = 16,
    time_step_rank: int | str = "auto",
    conv_kernel: int = 4,
    expand: int = 2,
    use_bias: bool = False,
    use_conv_bias: bool = True,
) -> Mamba:
    """The unit for the settings of a published MambaConfig, by their published names."""
    return Mamba(
        hidden_size,
        hidden_size,
        state_size=state_size,
        expand=expand,
        conv_width=conv_kernel,
        rank=None if time_step_rank == "auto" else int(time_step_rank),
        bias=use_bias,
        conv_bias=use_conv_bias,
    )


def mamba2(
    hidden_size: int,
    num_heads: int,
    head_dim: int = 64,
    state_size: int = 128,
    n_groups: int = 8,
    conv_kernel: int = 4,
    expand: int = 2,
    time_step_limit: tuple[float, float] = (0.0, math.inf),
    use_bias: bool = False,
    use_conv_bias: bool = True,
    layer_norm_epsilon: float = 1e-5,
) -> Mamba2:
    """The unit for the settings of a published Mamba2Config, by their published names.

    Raises:
        WeightsError: the heads do not make up the inner width, so no such model can exist.
    """
    if num_heads * head_dim != expand * hidden_size:
        raise WeightsError(
            f"{num_heads} heads of {head_dim} do not make up the inner width, {expand} * {hidden_size}."
        )
    return Mamba2(
        hidden_size,
        hidden_size,
        heads=num_heads,
        state_size=state_size,
        groups=n_groups,
        expand=expand,
        conv_width=conv_kernel,
        limit=(time_step_limit[0], time_step_limit[1]),
        bias=use_bias,
        conv_bias=use_conv_bias,
        norm_eps=layer_norm_epsilon,
    )


def from_published(weights: Mapping[str, Tensor], unit: Mamba | Mamba2) -> dict[str, Tensor]:
    """Published tensors of one mixer -> the state dict of `unit`.

    Raises:
        WeightsError: a tensor is missing or left over, or its shape is not that of the unit.
    """
    expected = to_published(unit)
    if set(expected) != set(weights):
        odd = sorted(set(expected) ^ set(weights))
        raise WeightsError(
            f"{', '.join(odd)}: in the file or in the model, not in both. Are the bias flags right?"
        )
    for name, ours in expected.items():
        if weights[name].shape != ours.shape:
            raise WeightsError(
                f"{name} is {tuple(weights[name].shape)} in the file, {tuple(ours.shape)} in the model."
            )
    return {
        name.replace("conv1d.", "conv."): weight.squeeze(1).t() if name == "conv1d.weight" else weight
        for name, weight in weights.items()
    }


def to_published(unit: Mamba | Mamba2) -> dict[str, Tensor]:
    """The weights of `unit` by their published names."""
    return {
        name.replace("conv.", "conv1d."): weight.t().unsqueeze(1) if name == "conv.weight" else weight
        for name, weight in unit.named_parameters()
    }


def from_published_cache(unit: Mamba | Mamba2, conv_state: Tensor, recurrent_state: Tensor) -> State:
    """conv_state (B, C, K), recurrent_state -> the state of our unit."""
    if isinstance(unit, Mamba2):
        recurrent_state = recurrent_state.transpose(2, 3)
    return conv_state.transpose(1, 2), recurrent_state


def to_published_cache(unit: Mamba | Mamba2, state: State) -> State:
    """The state of our unit -> conv_state (B, C, K), recurrent_state."""
    window, memory = state
    return window.transpose(1, 2), memory.transpose(2, 3) if isinstance(unit, Mamba2) else memory
