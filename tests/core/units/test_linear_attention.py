"""Linear attention as the quadratic form it replaces."""

import pytest
import torch
from torch.testing import assert_close

import core
from core.errors import ConfigError


def test_it_is_attention_with_kernel_weights() -> None:
    unit = core.build("linear_attention", 8, heads=2).double()
    x = torch.randn(3, 20, 8, dtype=torch.float64)
    q, k, v = unit.project(x)
    weights = torch.einsum("bthk,bshk->bhts", q, k).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    expected = unit.output(torch.einsum("bhts,bshv->bthv", weights, v).flatten(-2))
    assert_close(unit(x)[0], expected)


def test_one_token_returns_its_own_value() -> None:
    unit = core.build("linear_attention", 8).double()
    x = torch.randn(3, 1, 8, dtype=torch.float64)
    assert_close(unit(x)[0], unit.output(unit.project(x)[2].flatten(-2)))


def test_heads_divide_any_width_by_default_and_are_checked_when_given() -> None:
    assert [core.build("linear_attention", width).heads for width in (5, 64, 130, 200, 257)] == [
        1,
        1,
        2,
        2,
        1,
    ]
    with pytest.raises(ConfigError, match="heads that divide the hidden width 8, got 3"):
        core.build("linear_attention", 8, heads=3)
