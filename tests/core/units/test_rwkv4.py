import pytest
import torch
from torch.testing import assert_close

from core.units.matrix.rwkv4 import RWKV4, RWKV4ChannelMix


def test_the_first_token_has_no_past_and_gives_its_own_value() -> None:
    unit = RWKV4(4, 6).double()
    x = torch.randn(2, 1, 4, dtype=torch.float64)
    value = unit.value(x * unit.time_mix_value)
    r = unit.receptance(x * unit.time_mix_receptance).sigmoid()
    assert_close(unit(x)[0], unit.output(r * value))


def test_a_constant_input_without_mixing_is_averaged_to_itself() -> None:
    unit = RWKV4(4, 4).double()
    x = torch.randn(1, 1, 4, dtype=torch.float64).expand(1, 50, 4)
    _, *empty = unit.initial_state(x)
    y, _ = unit(x, (x[:, 0], *empty))  # the token before the first is the same too
    assert_close(y, y[:, :1].expand_as(y))
    assert_close(y[:, 0], unit.output(unit.receptance(x[:, 0]).sigmoid() * unit.value(x[:, 0])))


@pytest.mark.parametrize("decay", [-30.0, 30.0])
def test_extreme_decays_stay_finite(decay: float) -> None:
    unit = RWKV4(4, 4)
    torch.nn.init.constant_(unit.time_decay, decay)
    x = (100 * torch.randn(2, 40, 4)).requires_grad_()
    y, _ = unit(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in unit.parameters()
    )


def test_the_channel_mix_sees_one_token_back() -> None:
    mix = RWKV4ChannelMix(4).double()
    x = torch.randn(2, 7, 4, dtype=torch.float64)
    y, state = mix(x)
    assert y.shape == x.shape
    assert_close(state, x[:, -1])
    assert_close(mix(x, None, "step")[0], y)
    assert_close(mix(x[:, 3:], x[:, 2])[0], y[:, 3:])


def test_the_state_does_not_share_memory_with_the_input() -> None:
    unit, x = RWKV4(4, 4), torch.randn(2, 6, 4)
    _, state = unit(x)
    _, stepped = unit.step(x[:, 0], unit.initial_state(x))
    x.zero_()
    assert state[0].abs().min() > 0
    assert stepped[0].abs().min() > 0
    assert state[0].untyped_storage().nbytes() == 2 * 4 * 4
