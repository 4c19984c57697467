"""The loop of IndRNN over rows of different length that lie one after another: it is told where they begin.

    h_t = phi(gates_t + u * h_{t-1})          t along a row; each row begins with a state of its own

A channel sees only itself, so a row alone is as fast as many side by side, and the layout needs no turning.
Second derivatives, and machines without the compiled loops, go through the padded definition.
"""

from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.kernels.choice import version
from core.kernels.gated_loop.cell import Cell


def vector_rows(cell: Cell, gates: Tensor, vector: Tensor, h0: Tensor, lengths: list[int]) -> Tensor:
    """gates (N, D) hold the tokens of B rows, row by row; u (D,), h0 (B, D) -> h (N, D), all of one type."""
    if version("core.kernels.gated_loop", "cpu") is None or not gates.is_cpu:
        return by_padding(cell, gates, vector, h0, lengths)
    return VectorRows.apply(cell, gates, vector, h0, lengths)  # pyright: ignore[reportReturnType]


def by_padding(cell: Cell, gates: Tensor, vector: Tensor, h0: Tensor, lengths: list[int]) -> Tensor:
    """The same by the steps of the cell."""
    tokens = pad_sequence(list(gates.split(lengths)), batch_first=True)  # (B, T, D)
    h, found = h0, []
    for token in tokens.unbind(1):
        h, _ = cell.step(token, (h,), (vector,))
        found.append(h)
    rows = torch.stack(found, 1).unbind(0)
    return torch.cat([row[:length] for row, length in zip(rows, lengths, strict=True)])


class VectorRows(torch.autograd.Function):
    """The compiled loops."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, gates: Tensor, vector: Tensor, h0: Tensor, lengths: list[int]
    ) -> Tensor:  # pyright: ignore
        from core.kernels.gated_loop.cells.rnn import run_rows

        h = torch.empty_like(gates, memory_format=torch.contiguous_format)
        run_rows(*arrays(gates, vector), cell.options[0] == "tanh", begins(lengths), *arrays(h0, h))
        ctx.cell, ctx.lengths = cell, lengths
        ctx.save_for_backward(gates, vector, h0, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        from core.kernels.gated_loop.cells.rnn import run_rows_backward

        gates, vector, h0, h = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = gates.view_as(gates), vector.view_as(vector), h0.view_as(h0)
            wanted = [part for part in given if part.requires_grad]
            again = by_padding(ctx.cell, *given, ctx.lengths)
            found = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
            return None, *(next(found) if part.requires_grad else None for part in given), None
        dgates, dvector, dh0 = torch.empty_like(h), torch.zeros_like(vector), torch.zeros_like(h0)
        (u,) = arrays(vector)
        rest = arrays(h0, h, grad, dh0, dgates, dvector)
        run_rows_backward(u, ctx.cell.options[0] == "tanh", begins(ctx.lengths), *rest)
        return None, dgates, dvector, dh0, None


def begins(lengths: list[int]) -> np.ndarray:
    """Where each row begins, and the last one ends."""
    return np.array([0, *accumulate(lengths)], np.int64)


def arrays(*parts: Tensor) -> list[np.ndarray]:
    """The memory of tensors, one after another in it."""
    return [part.detach().contiguous().numpy() for part in parts]
