"""Networks written in VGSL as kraken 7 builds them: series, parallels, LSTMs along both axes, legacy cells.

    [1,48,0,1 Cr3,13,8 Mp2,2 S1(1x0)1,3 Lbx16 O1c32]

`[b,h,w,c block ...]`, 0 = any size. Names of layers, and so the keys of a state dict, are kraken's: the
letter and the number of the leaf (`C_0`), or what stands in braces; a bracket is called by all its leaves.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.errors import ConfigError
from vision.ocr.models.legacy_lstm import LegacyLSTM

AXES = {0: 0, 1: 2, 2: 3, 3: 1}
"""Dimensions of the language (batch, height, width, channels) in tensors (N, C, H, W)."""
TOKEN = re.compile(r"S(?:\{[^}]*\})?\d+\(\d+x\d+\)\d+,\d+|[\[\]()]|[^\s\[\]()]+")
Lengths = Tensor | None


class Layer(nn.Module):
    """x (N, C, H, W), valid columns (N,) or None -> the same."""

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        raise NotImplementedError


class Series(Layer):
    """Layers one after the other."""

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        for layer in self.children():
            x, lengths = layer(x, lengths)
        return x, lengths


class Parallel(Layer):
    """Layers side by side, their channels in a row."""

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        found = [layer(x, lengths) for layer in self.children()]
        return torch.cat([y for y, _ in found], 1), found[-1][1]


class Convolution(Layer):
    def __init__(
        self, inputs: int, outputs: int, kernel: Any, stride: Any, dilation: Any, kind: str, transposed: bool
    ) -> None:
        super().__init__()
        self.kind = kind
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        make = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.co = make(inputs, outputs, kernel, stride, padding, dilation=dilation)
        self.transposed = transposed

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        x = activated(self.co(x), self.kind)
        if lengths is None or self.transposed:
            return x, lengths
        k, s, d = (int(part[1]) for part in (self.co.kernel_size, self.co.stride, self.co.dilation))
        p = int(self.co.padding[1])
        return x, ((lengths + 2 * p - d * (k - 1) - 1) // s + 1).clamp(min=1)


def activated(x: Tensor, kind: str) -> Tensor:
    """t tanh, r ReLU, lr leaky ReLU, m softmax over channels; l and s leave the logits."""
    match kind:
        case "t":
            return x.tanh()
        case "r":
            return x.relu()
        case "lr":
            return F.leaky_relu(x)
        case "m":
            return x.softmax(1)
    return x


class MaxPool(Layer):
    def __init__(self, kernel: Any, stride: Any) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        y = F.max_pool2d(x, self.kernel, self.stride)
        return y, None if lengths is None else (lengths - self.kernel[1]) // self.stride[1] + 1


class Recurrent(Layer):
    """An LSTM along x or y, every row (column) by itself; `last` keeps the last step only."""

    def __init__(self, inputs: int, hidden: int, both: bool, vertical: bool, last: bool, legacy: str) -> None:
        super().__init__()
        self.vertical, self.last = vertical, last
        self.layer: nn.Module
        if legacy:
            self.layer = LegacyLSTM(inputs, hidden, both, peephole=legacy == "o")
        else:
            self.layer = nn.LSTM(inputs, hidden, bidirectional=both, batch_first=True)

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        x = x.permute(0, 3, 2, 1) if self.vertical else x.permute(0, 2, 3, 1)  # (N, rows, steps, C)
        N, rows, steps, C = x.shape
        flat = x.reshape(N * rows, steps, C)
        if lengths is not None and not self.vertical:
            if rows != 1 or isinstance(self.layer, LegacyLSTM):
                raise ValueError("lines of different width need one row and no legacy cell; run them alone")
            packed = pack_padded_sequence(flat, lengths.cpu(), batch_first=True, enforce_sorted=False)
            y = pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=steps)[0]
        else:
            y = self.layer(flat)[0]
        y = y[:, -1:] if self.last else y
        y = y.view(N, rows, y.shape[1], -1)
        y = y.permute(0, 3, 2, 1) if self.vertical else y.permute(0, 3, 1, 2)
        if self.last and not self.vertical and lengths is not None:
            lengths = torch.ones_like(lengths)
        return y, lengths


class Norm(Layer):
    """Group norm; lines of different width are normalised over their valid columns, the rest is zero."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.layer = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        if lengths is None:
            return self.layer(x), lengths
        y = torch.zeros_like(x)
        for row, length in enumerate(lengths.tolist()):
            y[row : row + 1, ..., :length] = self.layer(x[row : row + 1, ..., :length])
        return y, lengths


class Dropping(Layer):
    def __init__(self, share: float, planes: bool) -> None:
        super().__init__()
        self.share, self.planes = share, planes

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        drop = F.dropout2d if self.planes else F.dropout
        return drop(x, self.share, self.training), lengths


class Reshape(Layer):
    """Splits an axis in two; one part is merged in front of another axis."""

    def __init__(self, source: int, a: int, b: int, high: int, low: int) -> None:
        super().__init__()
        self.source, self.a, self.b, self.high, self.low = source, a, b, high, low

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        before = x.shape[3]
        x = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        size, d = x.shape[self.source], self.source
        a = self.a or size // self.b
        b = self.b or size // self.a
        x = x.reshape(*x.shape[:d], a, b, *x.shape[d + 1 :])
        target, moved = (self.low, d + 1) if self.high == d else (self.high, d)
        if target != d:
            rest = [axis for axis in range(5) if axis != moved]
            place = rest.index(target if target < d else target + 1)
            order = [*rest[:place], moved, *rest[place:]]
            x = x.permute(order)
            x = x.reshape(*x.shape[:place], x.shape[place] * x.shape[place + 1], *x.shape[place + 2 :])
        else:
            x = x.flatten(d, d + 1)
        x = x.permute(0, 3, 1, 2)
        if lengths is not None and x.shape[3] != before:
            lengths = (lengths * before / x.shape[3]).long()
        return x, lengths


class Addition(Layer):
    """The sum of equal chunks of an axis."""

    def __init__(self, axis: int, chunk: int) -> None:
        super().__init__()
        self.axis, self.chunk = AXES[axis], chunk

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        return torch.stack(x.split(self.chunk, self.axis)).sum(0), lengths


class Identity(Layer):
    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        return x, lengths


class Output(Layer):
    """Channels -> logits at every column; label 0 is the blank."""

    def __init__(self, inputs: int, outputs: int, one: bool) -> None:
        super().__init__()
        self.one = one
        self.lin = nn.Linear(inputs + one, outputs)

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        x = x.permute(0, 2, 3, 1)
        if self.one:
            x = torch.cat([x.new_ones(*x.shape[:3], 1), x], 3)
        return self.lin(x).permute(0, 3, 1, 2), lengths


@dataclass
class Shape:
    """What is known of a tensor while the network is built; 0 is any."""

    channels: int
    height: int


class VGSL(nn.Module):
    """images (N, C, H, W) -> logits (N, V, H', W'), as kraken numbers and names its layers.

    Raises:
        ConfigError: a block that the language does not have.
    """

    def __init__(self, spec: str) -> None:
        super().__init__()
        self.spec = spec
        tokens = TOKEN.findall(spec.strip())
        if len(tokens) < 3 or tokens[0] != "[" or tokens[-1] != "]":
            raise ConfigError(
                f"a VGSL spec stands in brackets, such as [1,48,0,1 ... O1c32]; got {spec[:60]!r}."
            )
        try:
            self.input = tuple(int(part) for part in tokens[1].split(","))
            _, height, _, channels = self.input
        except ValueError:
            raise ConfigError(
                f"a VGSL spec begins with batch,height,width,channels; got {tokens[1]!r}."
            ) from None
        builder = Builder(tokens[2:-1])
        self.nn, _, shape = builder.series(Shape(channels, height))
        self.outputs = shape.channels

    def forward(self, images: Tensor, lengths: Lengths = None) -> tuple[Tensor, Lengths]:
        return self.nn(images, lengths)


class Builder:
    """Tokens -> nested layers."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.number = tokens, 0, 0

    def series(self, shape: Shape, end: str = "") -> tuple[Series, list[str], Shape]:
        """Layers until a closing bracket."""
        made, names = Series(), []
        while self.at < len(self.tokens) and self.tokens[self.at] != end:
            layer, own, shape = self.one(shape)
            made.add_module(" ".join(own), layer)
            names += own
        self.at += 1
        return made, names, shape

    def parallel(self, shape: Shape) -> tuple[Parallel, list[str], Shape]:
        made, names, channels, last = Parallel(), [], 0, shape
        while self.at < len(self.tokens) and self.tokens[self.at] != ")":
            layer, own, last = self.one(Shape(shape.channels, shape.height))
            made.add_module(" ".join(own), layer)
            names += own
            channels += last.channels
        self.at += 1
        return made, names, Shape(channels, last.height)

    def one(self, shape: Shape) -> tuple[Layer, list[str], Shape]:
        """The next layer, its leaves' names, and the shape after it."""
        token = self.tokens[self.at]
        self.at += 1
        if token == "[":
            return self.series(shape, "]")
        if token == "(":
            return self.parallel(shape)
        named = re.search(r"\{([^}]*)\}", token)
        layer, letter, after = leaf(re.sub(r"\{[^}]*\}", "", token), shape)
        name = named[1] if named else f"{letter}_{self.number}"
        self.number += 1
        return layer, [name], after


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")] if text else []


def leaf(block: str, shape: Shape) -> tuple[Layer, str, Shape]:
    """A block, its letter, and the shape after it."""
    C, H = shape.channels, shape.height
    if found := re.fullmatch(r"C(T?)(lr|[strlm])([\d,]+)", block):
        kh, kw, outputs, *rest = numbers(found[3])
        stride = tuple(rest[:2]) if len(rest) >= 2 else (1, 1)
        dilation = tuple(rest[2:4]) if len(rest) >= 4 else (1, 1)
        layer = Convolution(C, outputs, (kh, kw), stride, dilation, found[2], bool(found[1]))
        p = dilation[0] * (kh - 1) // 2
        after = max(1, (H + 2 * p - dilation[0] * (kh - 1) - 1) // stride[0] + 1) if H else 0
        return layer, "C", Shape(outputs, after)
    if found := re.fullmatch(r"Mp([\d,]+)", block):
        kh, kw, *rest = numbers(found[1])
        stride = tuple(rest) if rest else (kh, kw)
        return MaxPool((kh, kw), stride), "Mp", Shape(C, (H - kh) // stride[0] + 1 if H else 0)
    if found := re.fullmatch(r"([LG])([frb])([xy])(s?)([co]?)(\d+)", block):
        hidden, both = int(found[6]), found[2] == "b"
        vertical, last = found[3] == "y", bool(found[4])
        layer = Recurrent(C, hidden, both, vertical, last, found[5])
        return layer, found[1], Shape(hidden * (2 if both else 1), 1 if vertical and last else H)
    if found := re.fullmatch(r"Gn(\d+)", block):
        return Norm(C, int(found[1])), "Gn", shape
    if found := re.fullmatch(r"Do([\d.]*)(?:,(\d))?", block):
        return Dropping(float(found[1] or 0.5), found[2] == "2"), "Do", shape
    if found := re.fullmatch(r"S(\d)\((\d+)x(\d+)\)(\d),(\d)", block):
        d, a, b, e, f = (int(part) for part in found.groups())
        if a == b == 0 or d not in (e, f) or d > 3:
            raise ConfigError(f"the block {block!r} does not say how an axis is split.")
        after = shape
        if d == 1:
            part_a = a or (H // b if H else 0)
            part_b = b or (H // a if H else 0)
            stays, moves, target = (part_a, part_b, f) if e == d else (part_b, part_a, e)
            after = Shape(C * moves if target == 3 else C, stays if target != 1 else H)
        return Reshape(d, a, b, e, f), "S", after
    if found := re.fullmatch(r"A(\d),(\d+)", block):
        axis, chunk = int(found[1]), int(found[2])
        return Addition(axis, chunk), "A", Shape(chunk, H) if axis == 3 else shape
    if block == "I":
        return Identity(), "I", shape
    if found := re.fullmatch(r"O1c(a?)(\d+)", block):
        return Output(C, int(found[2]), bool(found[1])), "O", Shape(int(found[2]), H)
    if found := re.fullmatch(r"O2([ls])(\d+)", block):
        outputs = int(found[2])
        layer = Convolution(C, outputs, (1, 1), (1, 1), (1, 1), "m" if found[1] == "s" else "l", False)
        return layer, found[1], Shape(outputs, H)
    raise ConfigError(f"the VGSL language of kraken has no block {block[:40]!r}.")
