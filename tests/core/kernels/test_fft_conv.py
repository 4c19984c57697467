import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from core.kernels.fft_conv import fast_size, fft_conv, fft_conv_ref


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("time", "taps"), [(1, 1), (7, 7), (33, 12), (12, 33), (64, 1)])
def test_equals_the_definition(time, taps, kind) -> None:  # noqa: ANN001
    x, kernel = torch.randn(2, time, 3, dtype=kind), torch.randn(taps, 3, dtype=kind)
    assert_close(fft_conv(x, kernel), fft_conv_ref(x, kernel))


def test_the_end_does_not_wrap_around_to_the_beginning() -> None:
    x = torch.zeros(1, 8, 1, dtype=torch.float64)
    x[0, 7] = 1e6
    assert fft_conv(x, torch.ones(8, 1, dtype=torch.float64))[0, :7].abs().max() < 1e-8


def test_gradients_are_right() -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(5, 3, dtype=torch.complex128, requires_grad=True)
    assert gradcheck(fft_conv, (x, kernel))


def test_no_tokens_give_no_tokens() -> None:
    assert fft_conv(torch.zeros(2, 0, 3), torch.ones(4, 3)).shape == (2, 0, 3)


def test_half_precision_comes_back_as_half() -> None:
    x, kernel = torch.randn(2, 9, 3), torch.randn(9, 3)
    y = fft_conv(x.bfloat16(), kernel.bfloat16())
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), fft_conv_ref(x, kernel), rtol=0.1, atol=0.1)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 9, 3\) and \(9, 4\)"):
        fft_conv(torch.zeros(2, 9, 3), torch.zeros(9, 4))


def test_sizes_have_small_factors_only() -> None:
    for least in range(1, 400):
        size = fast_size(least)
        smaller = [n for n in range(least, size) if is_smooth(n)]
        assert size >= least
        assert is_smooth(size)
        assert not smaller


def is_smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1
