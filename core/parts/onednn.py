"""Weights laid out once as oneDNN reads them, for networks on a CPU that only answer.

torch brings the weights of every call into oneDNN's order anew, and writes a sum and a relu in passes of
their own: a seventh of the time of a line of handwriting. `ReadConv` and `ReadLSTM` keep the ordered weights
and have oneDNN do the passes on its way. The operators are those that torch's own compiler calls; where a
trial shows that they are missing, and where a gradient is wanted or a graph recorded, the plain form runs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from core.kernels.choice import recording


def answers_here(x: Tensor, weight: Tensor) -> bool:
    """Whether ordered weights may be used: float32 on a CPU, nothing learned or recorded, oneDNN at hand."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or recording() or not torch.backends.mkldnn.enabled:
        return False
    if torch.is_autocast_enabled("cpu") or not x.numel():
        return False
    return x.dtype == torch.float32 == weight.dtype and works()


@cache
def works() -> bool:
    """Whether this torch has oneDNN and its operators answer as the layers do."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        conv = nn.Conv2d(2, 3, 3, padding=1)
        lstm: Any = nn.LSTM(2, 3, batch_first=True)
        x, other, steps = torch.rand(1, 2, 4, 5), torch.rand(1, 3, 4, 5), torch.rand(1, 4, 2)
        try:
            found = ordered_conv(x, other, order_conv(conv, x), conv, relu=True)
            weights = lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0
            seen = steps.transpose(0, 1).contiguous()
            told = ordered_lstm(seen, order_lstm(*weights[:2], seen, False), weights[2:], False)
        except (AttributeError, RuntimeError, TypeError):  # not there, or with other arguments
            return False
        near = torch.allclose(found, (conv(x) + other).relu(), atol=1e-5)
        return near and torch.allclose(told.transpose(0, 1), lstm(steps)[0], atol=1e-5)


class Ordered:
    """What was made of a weight, made anew once that has changed; copies of a network begin without it."""

    def __init__(self) -> None:
        self.made: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, name: Any, weight: Tensor, make: Callable[[], Any]) -> Any:
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if name not in self.made or self.made[name][0] != state:
            self.made[name] = state, make()
        return self.made[name][1]

    def __reduce__(self) -> tuple[type["Ordered"], tuple[()]]:
        return Ordered, ()


class ReadConv(nn.Module):
    """x (B, C, H, W), other -> relu(conv(x) + other), the sum and the relu where they are asked for."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu
        self.ordered = Ordered()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        conv = self.conv
        if not answers_here(x, conv.weight) or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            y = conv(x) if other is None else conv(x) + other
            return y.relu() if self.relu else y
        weight = self.ordered("weight", conv.weight, lambda: order_conv(conv, x))
        return ordered_conv(x, other, weight, conv, relu=self.relu)


class ReadLSTM:
    """Plain LSTMs in one or both directions: x (B, T, I) -> y (B, T, sum of widths), states from zero."""

    def __init__(self) -> None:
        self.ordered = Ordered()

    def __call__(self, units: Any, x: Tensor) -> Tensor:
        x = x.transpose(0, 1).contiguous()  # (T, B, I)
        found = []
        for backwards, unit in enumerate(units):
            weights = self.ordered(
                backwards,
                unit.weight_hh,
                lambda unit=unit, back=bool(backwards): order_lstm(unit.weight_ih, unit.weight_hh, x, back),
            )
            found.append(ordered_lstm(x, weights, (unit.bias_ih, unit.bias_hh), bool(backwards)))
        return torch.cat(found, -1).transpose(0, 1)


def about(conv: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    """Padding, stride, dilation, groups as the operators take them."""
    assert not isinstance(conv.padding, str)
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


def order_conv(conv: nn.Conv2d, x: Tensor) -> Any:
    """The weight of a convolution in the order that is best for x."""
    return torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *about(conv), list(x.shape))


def ordered_conv(x: Tensor, other: Tensor | None, weight: Any, conv: nn.Conv2d, *, relu: bool) -> Tensor:
    """relu(conv(x) + other) with an ordered weight."""
    run = torch.ops.mkldnn._convolution_pointwise
    if other is None:
        return run(x, weight, conv.bias, *about(conv), "relu" if relu else "none", [], "")
    after = "relu" if relu else None
    return run.binary(x, other, weight, conv.bias, *about(conv), "add", 1.0, after, [], "")


def order_lstm(weight_ih: Tensor, weight_hh: Tensor, x: Tensor, backwards: bool) -> Any:
    """Both weights of one direction in the order that is best for x (T, B, I)."""
    size = weight_hh.shape[1]
    return torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
        weight_ih, weight_hh, size, backwards, True, False, list(x.shape)
    )


def ordered_lstm(x: Tensor, weights: Any, biases: Any, backwards: bool) -> Tensor:
    """One direction of x (T, B, I) with ordered weights, from a state of zeros."""
    size = biases[0].shape[0] // 4
    start = x.new_zeros(x.shape[1], size)
    kind, layers, has_biases, both, batch_first, learns = 2, 1, True, False, False, False
    rest = (backwards, [], kind, size, layers, has_biases, both, batch_first, learns)
    return torch.ops.aten.mkldnn_rnn_layer(x, *weights, *biases, start, start, *rest)[0]
