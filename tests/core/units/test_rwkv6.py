import pytest
import torch
from torch.testing import assert_close

from core.errors import ConfigError
from core.units.matrix.rwkv6 import RWKV6, RWKV6ChannelMix


def test_the_bonus_weighs_the_current_token_alone() -> None:
    unit = RWKV6(8, 8, heads=2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    before, state = unit(x)
    unit.time_faaaa.data += 1
    after, same = unit(x)
    assert_close(state[1], same[1])  # the state is written without it
    assert (before - after).abs().min() > 0


@pytest.mark.parametrize("decay", [-60.0, 60.0])
def test_extreme_decays_stay_finite(decay: float) -> None:
    unit = RWKV6(8, 8, heads=2)
    torch.nn.init.constant_(unit.time_decay, decay)
    x = torch.randn(2, 100, 8).requires_grad_()
    y, _ = unit(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in unit.parameters()
    )


def test_heads_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="divide"):
        RWKV6(8, 8, heads=3)


def test_the_channel_mix_can_be_cut_anywhere() -> None:
    mix = RWKV6ChannelMix(6, 10).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    y, _ = mix(x)
    head, state = mix(x[:, :3])
    assert_close(torch.cat([head, mix(x[:, 3:], state)[0]], 1), y)
    assert_close(mix(x, None, "step")[0], y)
