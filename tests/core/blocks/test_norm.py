"""Root-mean-square norms follow their formulas, in single precision at least."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from core.errors import ConfigError
from core.parts.mlp import GatedMLP
from core.parts.norm import GatedRMSNorm, RMSNorm, rms


def formula(x: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def test_the_plain_norm_follows_its_formula() -> None:
    x, norm = torch.randn(2, 3, 8, dtype=torch.float64), RMSNorm(8, 1e-3).double()
    norm.weight.data = torch.randn(8, dtype=torch.float64)
    assert_close(norm(x), formula(x, 1e-3) * norm.weight)


def test_one_plus_starts_at_the_identity_scale() -> None:
    x, norm = torch.randn(2, 8, dtype=torch.float64), RMSNorm(8, one_plus=True).double()
    assert_close(norm(x), formula(x, 1e-6))
    norm.weight.data.fill_(0.5)
    assert_close(norm(x), 1.5 * formula(x, 1e-6))


def test_groups_are_normalised_apart() -> None:
    x, norm = torch.randn(2, 3, 8, dtype=torch.float64), RMSNorm(8, groups=2).double()
    assert_close(norm(x)[..., :4], formula(x[..., :4], 1e-6))
    assert_close(norm(x)[..., 4:], formula(x[..., 4:], 1e-6))


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_gate_comes_before_or_after_the_norm(norm_first: bool) -> None:
    x, gate = torch.randn(2, 2, 6, dtype=torch.float64)
    norm = GatedRMSNorm(6, 1e-5, groups=3, norm_first=norm_first).double()
    norm.weight.data = torch.randn(6, dtype=torch.float64)
    gated = x if norm_first else x * functional.silu(gate)
    expected = formula(gated.unflatten(-1, (3, 2)), 1e-5).flatten(-2) * norm.weight
    assert_close(norm(x, gate), expected * functional.silu(gate) if norm_first else expected)


def test_half_precision_does_not_overflow() -> None:
    x = torch.full((1, 4), 1000.0, dtype=torch.float16)
    y = rms(x, 1e-6)
    assert y.dtype == torch.float16
    assert_close(y, torch.ones_like(x))


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 groups do not divide a width of 8"):
        RMSNorm(8, groups=3)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_gated_network_follows_its_formula(activation: str) -> None:
    x, mlp = torch.randn(2, 3, 4), GatedMLP(4, 6, activation=activation, bias=True)
    gate = mlp.gate_proj(x)
    active = functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")
    assert_close(mlp(x), mlp.down_proj(active * mlp.up_proj(x)))


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ConfigError, match="activation must be one of"):
        GatedMLP(4, 6, activation="sine")
