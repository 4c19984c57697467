"""The compiled short convolution against torch's, along tokens and against them."""

import pytest
import torch
from torch.nn import functional as F

from core.kernels.short_conv import short_conv_silu


def by_torch(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    taps, channels = weight.shape
    past = F.pad(x.mT, (taps - 1, 0))
    return F.silu(F.conv1d(past, weight.t().unsqueeze(1), bias, groups=channels).mT)


@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize("time", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_convolution_of_torch(taps: int, time: int, dtype: torch.dtype) -> None:
    x, weight, bias = (torch.randn(*s, dtype=dtype) for s in ((2, time, 9), (taps, 5), (5,)))
    read = x[..., :5]
    along = short_conv_silu(x, 5, weight, bias, False)
    against = short_conv_silu(x, 5, weight, bias, True)
    torch.testing.assert_close(along, by_torch(read, weight, bias))
    torch.testing.assert_close(against, by_torch(read.flip(1), weight, bias))


def test_what_is_no_number_stays_where_it_can_be_seen() -> None:
    x = torch.zeros(1, 8, 2)
    x[0, 2, 1] = float("nan")
    found = short_conv_silu(x, 2, torch.ones(3, 2), torch.zeros(2), False)
    assert found.isnan().any(-1).squeeze().tolist() == [False, False, True, True, True, False, False, False]
    assert not found[..., 0].isnan().any()
