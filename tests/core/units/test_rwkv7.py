import pytest
import torch
from torch.testing import assert_close

from core.units.matrix.rwkv7 import RWKV7, RWKV7ChannelMix


def test_a_deeper_layer_mixes_in_the_values_of_the_first() -> None:
    first, second = RWKV7(8, 8, heads=2).double(), RWKV7(8, 8, heads=2, value_residual=True).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    y, values, _ = first.mix(x, first.initial_state(x))
    z, same, end = second.mix(y, second.initial_state(y), values)
    assert same is values
    state, steps = second.initial_state(y), []
    for t in range(9):
        one, _, state = second.mix(y[:, t], state, values[:, t], "step")
        steps.append(one)
    assert_close(torch.stack(steps, 1), z)
    assert_close(state[1], end[1])
    assert (second.mix(y, second.initial_state(y), 0 * values)[0] - z).abs().max() > 1e-6


def test_a_deeper_layer_asks_for_those_values() -> None:
    with pytest.raises(ValueError, match="needs v_first"):
        RWKV7(8, 8, value_residual=True)(torch.zeros(1, 3, 8))


@pytest.mark.parametrize("decay", [-60.0, 60.0])
def test_extreme_decays_stay_finite(decay: float) -> None:
    unit = RWKV7(8, 8, heads=2)
    torch.nn.init.constant_(unit.w0, decay)
    x = torch.randn(2, 200, 8).requires_grad_()
    y, (_, memory) = unit(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert memory.isfinite().all()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in unit.parameters()
    )


def test_the_channel_mix_can_be_cut_anywhere() -> None:
    mix = RWKV7ChannelMix(6).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    y, _ = mix(x)
    head, state = mix(x[:, :3])
    assert_close(torch.cat([head, mix(x[:, 3:], state)[0]], 1), y)
    assert_close(mix(x, None, "step")[0], y)
