import pytest
import torch
from torch.nn.functional import conv1d, pad
from torch.testing import assert_close

from core.units.diagonal.qrnn import QRNN


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("pooling", ["f", "fo", "ifo"])
def test_equals_a_causal_convolution_and_a_loop_over_its_gates(window: int, pooling: str) -> None:
    unit = QRNN(3, 4, window=window, pooling=pooling).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    taps = unit.taps.weight.unflatten(1, (window, 3)).transpose(1, 2)  # (gates, I, k)
    packed = conv1d(pad(x.transpose(1, 2), (window - 1, 0)), taps, unit.taps.bias).transpose(1, 2)
    z, f, *rest = packed.chunk(len(pooling) + 1, -1)
    z, f, rest = z.tanh(), f.sigmoid(), [part.sigmoid() for part in rest]
    c = torch.zeros(2, 4, dtype=torch.float64)
    y, _ = unit(x)
    for t in range(9):
        c = f[:, t] * c + (rest[1][:, t] if pooling == "ifo" else 1 - f[:, t]) * z[:, t]
        assert_close(y[:, t], rest[0][:, t] * c if rest else c)


def test_unknown_pooling_and_empty_windows_are_named() -> None:
    with pytest.raises(ValueError, match="one of f, fo, ifo, got 'max'"):
        QRNN(3, 4, pooling="max")
    with pytest.raises(ValueError, match="whole window of 1 or more, got 0"):
        QRNN(3, 4, window=0)
