import pytest
import torch
from torch.testing import assert_close

import core
from core.errors import ConfigError


@pytest.mark.parametrize("name", ["para_gru", "para_lstm"])
def test_heads_see_their_own_part_of_the_input_only(name) -> None:  # noqa: ANN001
    unit = core.build(name, 6, 8, heads=2)
    x = torch.randn(2, 9, 6)
    changed = x.clone()
    changed[..., :3] += 1
    before, after = unit(x)[0], unit(changed)[0]
    assert_close(before[..., 4:], after[..., 4:])
    assert (before[..., :4] != after[..., :4]).any()


@pytest.mark.parametrize("name", ["para_gru", "para_lstm"])
def test_one_head_equals_many_with_zero_blocks(name) -> None:  # noqa: ANN001
    many, one = core.build(name, 6, 8, heads=2).double(), core.build(name, 6, 8, heads=1).double()
    weights = many.state_dict()
    whole = torch.zeros(1, 6, 3, 8, dtype=torch.float64)
    whole[0, :3, :, :4], whole[0, 3:, :, 4:] = weights["weight_ih"]
    one.load_state_dict({**weights, "weight_ih": whole})
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    for mode in many.modes:
        assert_close(one(x, None, mode), many(x, None, mode))


def test_a_closed_write_gate_keeps_the_state_and_an_open_one_forgets_it() -> None:
    unit = core.build("para_gru", 3, 3)
    x, state = torch.randn(1, 5, 3), torch.randn(1, 3)
    with torch.no_grad():
        unit.bias[0] = -100
        assert_close(unit(x, state)[1], state)
        unit.bias[0] = 100
        unit.weight_hh[2] = 0
        assert_close(unit(x, state)[0], unit(x)[0])


@pytest.mark.parametrize("name", ["para_gru", "para_lstm"])
def test_heads_that_do_not_divide_are_named(name) -> None:  # noqa: ANN001
    with pytest.raises(ConfigError, match="divide both widths, input 6 and hidden 8; got 4"):
        core.build(name, 6, 8, heads=4)


@pytest.mark.parametrize("name", ["para_gru", "para_lstm", "indrnn"])
def test_a_thousand_tokens_are_the_same_in_every_mode(name) -> None:  # noqa: ANN001
    torch.manual_seed(0)
    unit, x = core.build(name, 16), torch.randn(2, 1000, 16)
    expected = unit(x, None, "sequential")
    assert_close(unit(x, None, "newton"), expected, rtol=1e-5, atol=1e-5)
