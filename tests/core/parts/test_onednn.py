"""Weights in oneDNN's order give what the layers give, and never what they were before."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import core
from core.parts import onednn
from core.parts.onednn import ReadConv, ReadLSTM, answers_here


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0)])
def test_a_convolution_takes_the_sum_and_the_relu_on_its_way(kernel: int, padding: int, relu: bool) -> None:
    conv = nn.Conv2d(3, 5, kernel, padding=padding)
    read = ReadConv(conv, relu=relu)
    x, other = torch.randn(2, 3, 6, 7), torch.randn(2, 5, 6, 7)
    before = other.clone()
    with torch.no_grad():
        plain = conv(x).relu() if relu else conv(x)
        torch.testing.assert_close(read(x), plain, atol=1e-5, rtol=1e-5)
        summed = (conv(x) + other).relu() if relu else conv(x) + other
        torch.testing.assert_close(read(x, other), summed, atol=1e-5, rtol=1e-5)
    assert torch.equal(other, before)
    x.requires_grad_()
    assert read(x, other).requires_grad  # where something is learned the plain form runs


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_of_ordered_weights_equals_the_units(directions: int) -> None:
    units = [core.build("lstm", 3, 4) for _ in range(directions)]
    read = ReadLSTM()
    with torch.no_grad():
        for batch, time in [(1, 9), (2, 5)]:
            x = torch.randn(batch, time, 3)
            y = [units[0](x)[0]] + [unit(x.flip(1))[0].flip(1) for unit in units[1:]]
            torch.testing.assert_close(read(units, x), torch.cat(y, -1), atol=1e-5, rtol=1e-5)


def test_weights_that_change_are_ordered_anew_and_copies_begin_without() -> None:
    read, x = ReadConv(nn.Conv2d(1, 2, 1)), torch.ones(1, 1, 2, 2)
    with torch.no_grad():
        read(x)
        read.conv.weight.zero_()
        torch.testing.assert_close(read(x)[0, :, 0, 0], read.conv.bias)
        again = deepcopy(read)
        assert not again.ordered.made
        assert torch.equal(again(x), read(x))


def test_a_torch_whose_operators_differ_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*args: object) -> None:
        raise RuntimeError("expects other arguments")

    with torch.no_grad():
        x = torch.ones(1, 1, 2, 2)
        assert answers_here(x, x) == torch.backends.mkldnn.is_available()
        assert not answers_here(x.double(), x)
        assert not answers_here(x[:0], x)
        onednn.works.cache_clear()
        monkeypatch.setattr(onednn, "order_lstm", other)
        assert not onednn.works()
        read = ReadConv(nn.Conv2d(1, 2, 1))
        assert torch.equal(read(x), read.conv(x))
    onednn.works.cache_clear()
