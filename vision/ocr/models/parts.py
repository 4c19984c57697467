"""What the networks share: columns beyond a line are zero after every layer, so a batch changes nothing."""

from typing import Any

import torch
from torch import Tensor, nn

import core
from core.blocks.directions import onednn_layer, onednn_runs, run_directions
from core.errors import WeightsError
from core.kernels.choice import recording
from core.parts.onednn import ReadLSTM, answers_here


def beyond(x: Tensor, widths: Tensor | None) -> Tensor:
    """x (B, C, H, W) with the columns from `widths` (B,) on set to zero."""
    if widths is None:
        return x
    inside = torch.arange(x.shape[-1], device=x.device) < widths[:, None]
    return x * inside[:, None, None, :].to(x.dtype)


class Residual(nn.Module):
    """(B, C, H, W) -> (B, channels, H, W): two 3x3 convolutions with BatchNorm beside a shortcut."""

    FOLDS = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(inputs, channels, 1, bias=False) if inputs != channels else nn.Identity()

    def forward(self, x: Tensor, widths: Tensor | None) -> Tensor:
        y = beyond(self.norm1(self.conv1(x)).relu(), widths)
        y = self.norm2(self.conv2(y)) + self.shortcut(x)
        return beyond(y.relu(), widths)


class BothWays(nn.Module):
    """x (B, T, I) -> (B, T, 2 H): a core unit in both directions, layer by layer.

    The final states are not needed, so rows of different length run whole and are cut afterwards: one call
    a direction, exact for every unit that does not look ahead.
    """

    def __init__(
        self, unit: str, inputs: int, hidden: int, layers: int, dropout: float, **options: Any
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList()
        width = inputs
        for _ in range(layers):
            self.units.extend(core.build(unit, width, hidden, **options) for _ in range(2))
            width = 2 * int(self.units[-1].output_size)  # pyright: ignore[reportArgumentType]
        self.output_size = width
        self.dropout = nn.Dropout(dropout)
        self.readers: list[ReadLSTM] = []  # a pair's, where the network only reads, see `folding`

    def forward(self, x: Tensor, lengths: Tensor | None, on_host: Tensor | None = None) -> Tensor:
        """`on_host`: the lengths once more, on the CPU, so that a GPU need not be waited for."""
        for layer in range(0, len(self.units), 2):
            if layer:
                x = self.dropout(x)
            pair: list[Any] = [self.units[layer], self.units[layer + 1]]
            if lengths is None and onednn_runs(pair, x):
                if self.readers and answers_here(x, pair[0].weight_hh):
                    x = self.readers[layer // 2](pair, x)
                else:
                    x, _ = onednn_layer(pair, x)
            else:
                x, _ = run_directions(pair, x, lengths=lengths, on_host=on_host)
        return x


def learned_or_recorded() -> bool:
    """Whether gradients are wanted, or a graph is being recorded: then the plain form is what runs."""
    return torch.is_grad_enabled() or recording()


def hide_spans(x: Tensor, lengths: Tensor | None, share: float, longest: int, generator: Any) -> Tensor:
    """x (B, T, D) with spans of frames set to zero: at most `share` of a line, in half of the lines."""
    if not share:
        return x
    B, T, _ = x.shape
    spans = max(1, int(T * share / longest))
    start = torch.rand(B, spans, device=x.device, generator=generator)
    size = torch.rand(B, spans, device=x.device, generator=generator) * (longest - 2) + 2
    chosen = torch.rand(B, 1, device=x.device, generator=generator) < 0.5
    long = torch.full((B, 1), float(T), device=x.device) if lengths is None else lengths[:, None].float()
    begin = start * long
    place = torch.arange(T, device=x.device, dtype=x.dtype if x.dtype == torch.float32 else torch.float32)
    hidden = (place >= begin[..., None]) & (place < (begin + size)[..., None])  # (B, spans, T)
    hidden = hidden.any(1) & chosen
    return x * (~hidden)[..., None].to(x.dtype)


def conv_out(width: Any, kernel: int, stride: int, padding: int) -> Any:
    """Columns after a convolution or pool."""
    return (width + 2 * padding - kernel) // stride + 1


class TorchWays(nn.Module):
    """`BothWays` of LSTMs or GRUs as torch's own layers, for graphs that leave the house."""

    def __init__(self, ways: BothWays) -> None:
        super().__init__()
        from core.layouts.torch_nn import torch_nn_layer

        pairs = (ways.units[place : place + 2] for place in range(0, len(ways.units), 2))
        self.layers = nn.ModuleList(torch_nn_layer(pair) for pair in pairs)

    def forward(self, x: Tensor, lengths: Tensor | None, on_host: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x)[0]
        return x


class Product(nn.Module):
    """A linear layer (B, T, I) -> (B, T, O) as a convolution of one step.

    As a product, graphs fix the number of steps to that of the example.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach()[..., None].clone())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x.transpose(1, 2), self.weight, self.bias).transpose(1, 2)


def in_torch_form(network: nn.Module) -> nn.Module:
    """A copy whose recurrent stages are torch's own layers where there are such; others stay as they are."""
    from copy import deepcopy

    found = deepcopy(network).eval()
    for owner in list(found.modules()):
        for name, part in list(owner.named_children()):
            if isinstance(part, nn.Linear):
                setattr(owner, name, Product(part))
            if isinstance(part, BothWays):
                try:
                    setattr(owner, name, TorchWays(part))
                except WeightsError:
                    continue
    return found
