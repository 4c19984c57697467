"""What is particular to Mamba-2, beside the contract of every unit."""

import pytest
import torch
from torch.testing import assert_close

from core.errors import ConfigError
from core.units.matrix.mamba2 import Mamba2


def test_the_limit_of_the_step_size_holds_in_a_single_step_too() -> None:
    torch.manual_seed(0)
    unit = Mamba2(8, 8, limit=(0.2, 0.3)).double()
    free = Mamba2(8, 8).double()
    free.load_state_dict(unit.state_dict())
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    whole, _ = unit(x)
    assert_close(unit(x, None, "step")[0], whole)
    assert (whole - free(x)[0]).abs().max() > 1e-3


def test_heads_read_the_group_they_belong_to() -> None:
    unit = Mamba2(8, 8, heads=4, groups=2, state_size=3).double()
    mixed = torch.randn(1, unit.conv.channels, dtype=torch.float64)
    _, q, k, _, _ = unit.inputs(mixed, torch.zeros(1, 4, dtype=torch.float64))
    B, C = mixed[:, 16:22].view(1, 2, 3), mixed[:, 22:].view(1, 2, 3)
    for head in range(4):
        assert_close(k[:, head], B[:, head // 2])
        assert_close(q[:, head], C[:, head // 2])


def test_a_left_pad_mask_equals_skipping_the_tokens() -> None:
    unit = Mamba2(8, 8).double()
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    y, state = unit.mix(x, unit.initial_state(x), mask)
    alone, end = unit(x[:, 3:])
    assert_close(y[:, 3:], alone)
    assert_close(state[1], end[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads that divide"),
        ({"heads": 4, "groups": 3}, "groups that divide its 4 heads"),
        ({"limit": (0.5, 0.1)}, "a rising limit"),
    ],
)
def test_misfits_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mamba2(8, 8, **options)
