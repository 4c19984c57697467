"""Rows of a matrix by number, taken, added and maximised: compiled loops on a CPU, tensor code elsewhere.

They stand inside functions that have their own way back, and where no gradient is asked for.
"""

import torch
from torch import Tensor

from core.kernels.jit import compiled


@compiled
def take_loop(x, rows, out):  # noqa: ANN001, ANN201
    """out (n, C) = x (N, C) at rows (n,)."""
    for i in range(len(rows)):
        row = rows[i]
        for c in range(x.shape[1]):
            out[i, c] = x[row, c]


@compiled
def add_loop(y, rows, part):  # noqa: ANN001, ANN201
    """y (N, C) at rows (n,) += part (n, C)."""
    for i in range(len(rows)):
        row = rows[i]
        for c in range(part.shape[1]):
            y[row, c] += part[i, c]


@compiled
def largest_loop(y, rows, part):  # noqa: ANN001, ANN201
    """y (N, C) at rows (n,) = the larger of it and part (n, C)."""
    for i in range(len(rows)):
        row = rows[i]
        for c in range(part.shape[1]):
            y[row, c] = max(y[row, c], part[i, c])


def loops(*parts: Tensor) -> bool:
    """Whether compiled loops take these matrices."""
    return all(
        part.device.type == "cpu" and part.dtype in (torch.float32, torch.float64) and part.is_contiguous()
        for part in parts
    )


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x (N, C) at rows (n,), (n, C)."""
    if not loops(x):
        return x.index_select(0, rows)
    out = torch.empty(len(rows), x.shape[1], dtype=x.dtype)
    take_loop(x.detach().numpy(), rows.numpy(), out.numpy())
    return out


def add_rows(y: Tensor, rows: Tensor, part: Tensor) -> None:
    """Add part (n, C) to y (N, C) in place at rows (n,)."""
    if loops(y, part):
        add_loop(y.detach().numpy(), rows.numpy(), part.detach().numpy())
    else:
        y.index_add_(0, rows, part)


def largest_rows(x: Tensor, rows: Tensor, count: int) -> Tensor:
    """The largest of the rows of x (n, C), none below 0, that have the same number: (count, C)."""
    y = x.new_zeros(count, x.shape[1])
    if loops(x) and not (torch.is_grad_enabled() and x.requires_grad):
        largest_loop(y.numpy(), rows.numpy(), x.detach().numpy())
        return y
    return y.scatter_reduce(0, rows[:, None].expand_as(x), x, "amax")
