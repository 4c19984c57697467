"""The scan over rows of different length that lie one after another: it is told where they begin.

    h_t = a_t * h_{t-1} + x_t          t along a row; each row begins with a state of its own

The compiled loops of the CPU run once a row. Second derivatives, and machines without the compiled loops, go
through the padded scan.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.kernels.choice import version


def linear_scan_rows(a: Tensor, x: Tensor, h0: Tensor, lengths: list[int]) -> Tensor:
    """a, x (N, D) hold the tokens of B rows, row by row; h0 (B, D) -> h (N, D).

    Types are promoted as by `linear_scan`.

    Raises:
        ValueError: shapes or lengths that do not fit each other.
    """
    if x.ndim != 2 or a.shape != x.shape or h0.shape != (len(lengths), x.shape[1]):
        raise ValueError(
            f"linear_scan_rows expects a, x (N, D) and h0 ({len(lengths)}, D), got {tuple(a.shape)}, "
            f"{tuple(x.shape)} and {tuple(h0.shape)}"
        )
    if sum(lengths) != len(x) or min(lengths, default=0) < 0:
        raise ValueError(f"lengths sum to {sum(lengths)}, there are {len(x)} tokens")
    dtype = torch.promote_types(torch.promote_types(a.dtype, x.dtype), h0.dtype)
    inner = torch.promote_types(dtype, torch.float32)
    parts = a.to(inner), x.to(inner), h0.to(inner)
    if version("core.kernels.linear_scan", "cpu") is None or not x.is_cpu:
        return by_padding(*parts, lengths).to(dtype)
    return RowScan.apply(*parts, lengths).to(dtype)  # pyright: ignore[reportOptionalMemberAccess]


def by_padding(a: Tensor, x: Tensor, h0: Tensor, lengths: list[int]) -> Tensor:
    """The same through the padded scan."""
    from core.kernels.linear_scan import linear_scan

    decay, tokens = (pad_sequence(list(part.split(lengths)), batch_first=True) for part in (a, x))
    h = linear_scan(decay, tokens, h0)
    return torch.cat([row[:length] for row, length in zip(h.unbind(0), lengths, strict=True)])


class RowScan(torch.autograd.Function):
    """a, x (N, D) and h0 (B, D) of one type -> h (N, D)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, h0: Tensor, lengths: list[int]) -> Tensor:  # pyright: ignore
        h = torch.empty(x.shape, dtype=x.dtype)
        run_rows("forward_rows", lengths, h0.shape[1], (a, x), (h0, h))
        ctx.lengths = lengths
        ctx.save_for_backward(a, x, h0, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        a, x, h0, h = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = a.view_as(a), x.view_as(x), h0.view_as(h0)
            wanted = [part for part in given if part.requires_grad]
            found = iter(
                torch.autograd.grad(by_padding(*given, ctx.lengths), wanted, grad, create_graph=True)
            )
            return *(next(found) if part.requires_grad else None for part in given), None
        da, dx, dh0 = torch.empty_like(h), torch.empty_like(h), torch.zeros_like(h0)
        run_rows("backward_rows", ctx.lengths, h0.shape[1], (a, grad), (h0, h, da, dx, dh0))
        return da, dx, dh0, None


def run_rows(
    name: str, lengths: list[int], width: int, strided: tuple[Tensor, ...], flat: tuple[Tensor, ...]
) -> None:
    """A compiled loop of the CPU's version, row by row: on tokens with strides, then on plain ones.

    Of the plain tensors the first and, going backward, the last hold one state a row of the batch.
    """
    cpu: Any = version("core.kernels.linear_scan", "cpu")
    views = [cpu.strided(part.unsqueeze(0)) for part in strided]
    plain = [cpu.flat(part) for part in flat]
    by_row = {0, 4}  # h0 and its gradient
    loop, begin = getattr(cpu, name), 0
    for row, length in enumerate(lengths):
        if length:
            tokens = [word for memory, _, step in views for word in (memory[begin * step :], 0, step)]
            rest = [
                memory[row * width :] if place in by_row else memory[begin * width :]
                for place, memory in enumerate(plain)
            ]
            loop(*tokens, *rest, length, width, 0, 1, 0, width)
        begin += length
