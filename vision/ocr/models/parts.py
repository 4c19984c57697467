"""What the networks share: columns beyond a line are zero after every layer, so a batch changes nothing."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import core
from core.blocks.rows import flip_within
from core.units.gated.lstm import LSTM


def beyond(x: Tensor, widths: Tensor | None) -> Tensor:
    """x (B, C, H, W) with the columns from `widths` (B,) on set to zero."""
    if widths is None:
        return x
    inside = torch.arange(x.shape[-1], device=x.device) < widths[:, None]
    return x * inside[:, None, None, :].to(x.dtype)


class Residual(nn.Module):
    """(B, C, H, W) -> (B, channels, H, W): two 3x3 convolutions with BatchNorm beside a shortcut."""

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

    def forward(self, x: Tensor, lengths: Tensor | None, on_host: Tensor | None = None) -> Tensor:
        """`on_host`: the lengths once more, on the CPU, so that a GPU need not be waited for."""
        for layer in range(0, len(self.units), 2):
            if layer:
                x = self.dropout(x)
            forth, back = self.units[layer], self.units[layer + 1]
            if fusable(forth, back, x):
                x = fused(forth, back, x, lengths if on_host is None else on_host)
            else:
                x = plain(forth, back, x, lengths)
        return x


def plain(forth: nn.Module, back: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Both directions through the units' own forward."""
    there = forth(x)[0]
    again = flip_within(back(flip_within(x, lengths))[0], lengths)
    y = torch.cat([there, again], -1)
    if lengths is None:
        return y
    return y * (torch.arange(y.shape[1], device=y.device) < lengths[:, None])[..., None].to(y.dtype)


def fusable(forth: nn.Module, back: nn.Module, x: Tensor) -> bool:
    """Plain LSTMs on a GPU: cuDNN runs both directions of the whole sequence in one call."""
    return x.is_cuda and all(
        isinstance(unit, LSTM)
        and unit.gates == ("i", "f", "g", "o")
        and not unit.coupled
        and unit.squash_input
        and unit.squash_output
        and unit.weight_ph is None
        and unit.weight_hr is None
        and unit.weight_gg is None
        and unit.bias_ih is not None
        for unit in (forth, back)
    )


def fused(forth: Any, back: Any, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Two LSTM units as one bidirectional layer of torch, on their own weights."""
    weights = [
        part
        for unit in (forth, back)
        for part in (unit.weight_ih, unit.weight_hh, unit.bias_ih, unit.bias_hh)
    ]
    # under autocast torch would run cuDNN in float16, whose gradients vanish
    with torch.autocast("cuda", enabled=False):
        return in_float32(forth, weights, x.float(), lengths)


def in_float32(forth: Any, weights: list[Tensor], x: Tensor, lengths: Tensor | None) -> Tensor:
    """One bidirectional LSTM layer of torch; rows of different length run packed."""
    together(weights, x.shape[-1], forth.hidden_size)
    zeros = x.new_zeros(2, x.shape[0], forth.hidden_size)
    state = (zeros, zeros)
    if lengths is None:
        return torch.lstm(x, state, weights, True, 1, 0.0, forth.training, True, True)[0]
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    data = torch.lstm(packed.data, packed.batch_sizes, state, weights, True, 1, 0.0, forth.training, True)[0]
    packed = packed._replace(data=data)
    return pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0]


@torch.no_grad()
def together(weights: list[Tensor], inputs: int, hidden: int) -> None:
    """Lay the weights of a layer into one piece of memory, once: else cuDNN copies them at every call."""
    storages = {weight.untyped_storage().data_ptr() for weight in weights}
    if len(storages) > 1 and all(weight.dtype == torch.float32 for weight in weights):
        lstm = 2  # cuDNN's number of the mode
        torch._cudnn_rnn_flatten_weight(weights, 4, inputs, lstm, hidden, 0, 1, True, True)  # pyright: ignore


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
