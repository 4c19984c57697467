"""Local attention equals full attention under a band, and streams with a fixed state."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.errors import ConfigError
from core.units.window.attention import LocalAttention, rotate


def by_definition(unit: LocalAttention, x: Tensor) -> Tensor:
    """One query, one head at a time."""
    batch, time, _ = x.shape
    angles = unit.angles(torch.zeros(batch, dtype=torch.long), time)
    q = rotate(unit.q_proj(x).unflatten(-1, (unit.heads, -1)), angles)
    k = rotate(unit.k_proj(x).unflatten(-1, (unit.key_heads, -1)), angles)
    v = unit.v_proj(x).unflatten(-1, (unit.key_heads, -1))
    o = torch.empty_like(q)
    for t in range(time):
        near = slice(max(0, t - unit.window + 1), t + 1)
        for head in range(unit.heads):
            group = head * unit.key_heads // unit.heads
            scores = (k[:, near, group] * q[:, t, head, None]).sum(-1) * unit.head_size**-0.5
            o[:, t, head] = (scores.softmax(-1).unsqueeze(-1) * v[:, near, group]).sum(1)
    return unit.o_proj(o.flatten(2))


@pytest.mark.parametrize(("window", "time"), [(1, 5), (4, 3), (4, 17), (70, 150)])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_it_equals_its_definition(window: int, time: int, key_heads: int) -> None:
    unit = LocalAttention(6, 16, heads=4, key_heads=key_heads, window=window).double()
    x = torch.randn(2, time, 6, dtype=torch.float64)
    assert_close(unit(x)[0], by_definition(unit, x))


def test_only_the_first_half_of_a_head_is_turned() -> None:
    x = torch.randn(1, 1, 1, 8, dtype=torch.float64)
    turned = rotate(x, torch.tensor([0.3, 0.7], dtype=torch.float64).view(1, 1, 1, 2))
    assert_close(turned[..., 4:], x[..., 4:])
    pairs = torch.complex(x[..., :2], x[..., 2:4]) * torch.exp(1j * torch.tensor([0.3, 0.7]))
    assert_close(
        torch.complex(turned[..., :2], turned[..., 2:4]), pairs, check_dtype=False, rtol=1e-6, atol=1e-6
    )


def test_its_state_does_not_grow() -> None:
    unit = LocalAttention(8, 8, window=5)
    x = torch.randn(2, 30, 8)
    keys, values, count = unit(x)[1]
    assert keys.shape == values.shape == (2, 4, 1, 8)
    assert count.tolist() == [30, 30]


def test_misfits_are_named() -> None:
    with pytest.raises(ConfigError, match="key heads must divide"):
        LocalAttention(8, 8, heads=2, key_heads=3)
    with pytest.raises(ConfigError, match="multiple of 4 channels"):
        LocalAttention(6, 6)
