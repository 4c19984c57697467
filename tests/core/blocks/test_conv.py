"""The causal convolution reads only the past and carries its window."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

import core
from core.parts.conv import CausalConv


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_torch_with_zeros_on_the_left(width: int, bias: bool) -> None:
    conv = CausalConv(5, width, bias=bias).double()
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    y, window = conv(x, conv.initial_state(x))
    padded = functional.pad(x.transpose(1, 2), (width - 1, 0))
    expected = functional.conv1d(padded, conv.weight.t().unsqueeze(1), conv.bias, groups=5)
    assert_close(y, expected.transpose(1, 2))
    assert_close(window, x[:, -width:])


def test_steps_and_pieces_equal_the_whole() -> None:
    conv = CausalConv(3, 4).double()
    x = torch.randn(2, 10, 3, dtype=torch.float64)
    whole, end = conv(x, conv.initial_state(x))
    for cut in (0, 1, 2, 7):
        head, window = conv(x[:, :cut], conv.initial_state(x)) if cut else (x[:, :0], conv.initial_state(x))
        tail, last = conv(x[:, cut:], window)
        assert_close(torch.cat([head, tail], 1), whole)
        assert_close(last, end)
    window = conv.initial_state(x)
    for t in range(10):
        y, window = conv.step(x[:, t], window)
        assert_close(y, whole[:, t])
    assert_close(window, end)


def test_the_last_tap_meets_the_current_token() -> None:
    conv = CausalConv(1, 3, bias=False).double()
    conv.weight.data = torch.tensor([[4.0], [2.0], [1.0]], dtype=torch.float64)
    x = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64).view(1, 3, 1)
    assert conv(x, conv.initial_state(x))[0].flatten().tolist() == [1, 12, 124]


def test_gradients_are_right() -> None:
    conv = CausalConv(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    window = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, window: conv(x, window), (x, window))


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        CausalConv(3, 0)


@pytest.mark.parametrize(
    ("name", "options"), [("fsmn", {"order": 20}), ("mamba", {"conv_width": 21, "expand": 1})]
)
def test_many_taps_in_half_precision_come_back(name: str, options: dict) -> None:
    """In float16 torch's loop over 21 taps and 40 tokens of few channels does not."""
    unit, x = core.build(name, 8, **options), torch.randn(2, 40, 8)
    with torch.no_grad():
        expected = unit(x)[0]
        with torch.autocast("cpu", torch.float16):
            assert_close(unit(x)[0].float(), expected, rtol=0.05, atol=0.05)
        assert_close(unit.half()(x.half())[0].float(), expected, rtol=0.05, atol=0.05)
