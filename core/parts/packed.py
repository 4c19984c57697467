"""Rows of different length laid one after another, so that what looks at tokens alone costs the valid ones.

Where a unit's recurrence is a scan between maps of single tokens, the maps then see no padding, and the scan
is told where rows begin (`core.kernels.linear_scan.rows`). On a CPU one copy there and one back do it.
"""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from core.parts.ragged import by_copy, memory


class Packed:
    """Where the tokens of rows (B, T) lie among all valid ones (N)."""

    def __init__(self, lengths: list[int], time: int) -> None:
        self.lengths, self.time = lengths, time
        self.stops = list(accumulate(lengths))
        self.begins = [stop - length for stop, length in zip(self.stops, lengths, strict=True)]

    def pack(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (N, D), whatever padding held."""
        return Pack.apply(x, self)  # pyright: ignore[reportReturnType]

    def unpack(self, y: Tensor) -> Tensor:
        """y (N, D) -> (B, T, D), zero on padding."""
        return Unpack.apply(y, self)  # pyright: ignore[reportReturnType]

    def last(self, h: Tensor, start: Tensor) -> Tensor:
        """h (N, ..) after each token, start (B, ..) -> (B, ..) after each row's last one, copied."""
        end = h.index_select(0, torch.tensor([max(0, stop - 1) for stop in self.stops]))
        if all(self.lengths):
            return end
        some = torch.tensor(self.lengths) > 0
        return torch.where(some.view(-1, *[1] * (h.ndim - 1)), end, start.to(end.dtype))


def packed(x: Tensor, lengths: Tensor | None) -> Packed | None:
    """The layout of rows with these lengths, if they have any and memory can be copied here."""
    if lengths is None or not by_copy(x):
        return None
    ends = lengths.tolist()
    return Packed(ends, x.shape[1]) if any(ends) else None


class Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Packed) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.rows = rows
        out = x.new_empty(rows.stops[-1], x.shape[2])
        source, target = memory(x), memory(out)
        for row, (begin, stop) in enumerate(zip(rows.begins, rows.stops, strict=True)):
            target[begin:stop] = source[row, : stop - begin]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Unpack.apply(grad, ctx.rows), None


class Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, rows: Packed) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.rows = rows
        out = y.new_empty(len(rows.lengths), rows.time, y.shape[1])
        source, target = memory(y), memory(out)
        for row, (begin, length) in enumerate(zip(rows.begins, rows.lengths, strict=True)):
            target[row, :length] = source[begin : begin + length]
            target[row, length:] = 0
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Pack.apply(grad, ctx.rows), None
