"""Convolutions over occupied voxels only, without an extension: any device, both passes.

A submanifold convolution answers at its input's voxels: one product over a table of neighbours on a GPU,
block by block over the pairs that exist on a CPU. Either is worked out once for a set of coordinates.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.jit import compiled
from core.kernels.matmul import add_outer, multiply_panels, pack
from vision.pointcloud.neighbours import Pairs, neighbours, pairs_of
from vision.pointcloud.rows import add_rows, loops, take_rows
from vision.pointcloud.voxels import Voxels, from_keys, keys

PAIR_BLOCK = 256
"""Rows of an answer that are worked on together, so that they stay in the cache."""


class GatherConv(torch.autograd.Function):
    """y_i = sum_k x[n(i, k)] W_k by one product; the way back gathers too, so nothing is scattered.

    Row j is the neighbour k of row i exactly when i is the neighbour K - 1 - k of j.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, table: Tensor) -> Tensor:  # noqa: ANN001
        """x (N, I), weight (K, I, O), table (N, K) -> (N, O)."""
        ctx.save_for_backward(x, weight, table)
        return gathered(x, table) @ weight.flatten(0, 1)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN001
        x, weight, table = ctx.saved_tensors
        grad = grads[0]
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = gathered(grad, table) @ weight.flip(0).transpose(1, 2).flatten(0, 1)
        if ctx.needs_input_grad[1]:
            to_weight = (gathered(x, table).T @ grad).view_as(weight)
        return to_x, to_weight, None


def gathered(x: Tensor, table: Tensor) -> Tensor:
    """(N, K * C): the rows that a table (N, K) names, zeros for row N."""
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    return padded[table].flatten(1)


@compiled
def pair_products(x, weight, rows, sources, starts, y):  # noqa: ANN001, ANN201
    """y (N, O) += sum over the pairs of every offset k of x (N, I) at its source times weight[k] (I, O).

    Block by block of rows, so that what is gathered, multiplied and added stays near the processor.
    """
    offsets = len(weight)
    first = pack(weight[0])
    panels = np.empty((offsets, first.shape[0], first.shape[1], first.shape[2]), x.dtype)
    for k in range(offsets):
        panels[k] = pack(weight[k])
    at = starts[:-1].copy()
    taken, product = np.empty((PAIR_BLOCK, x.shape[1]), x.dtype), np.empty((PAIR_BLOCK, y.shape[1]), x.dtype)
    zero = np.zeros((1, y.shape[1]), x.dtype)
    for top in range(0, len(y), PAIR_BLOCK):
        for k in range(offsets):
            low, count = at[k], 0
            while low + count < starts[k + 1] and rows[low + count] < top + PAIR_BLOCK:
                source = sources[low + count]
                for c in range(x.shape[1]):
                    taken[count, c] = x[source, c]
                count += 1
            if count:
                multiply_panels(taken[:count], panels[k], zero, product[:count])
                for i in range(count):
                    row = rows[low + i]
                    for c in range(y.shape[1]):
                        y[row, c] += product[i, c]
            at[k] = low + count


@compiled
def pair_outers(x, grad, rows, sources, starts, out):  # noqa: ANN001, ANN201
    """out (K, I, O) += the outer products of x (N, I) at sources and grad (N, O) at rows, by offset."""
    given, back = np.empty((PAIR_BLOCK, x.shape[1]), x.dtype), np.empty((PAIR_BLOCK, grad.shape[1]), x.dtype)
    at = starts[:-1].copy()
    for top in range(0, len(grad), PAIR_BLOCK):
        for k in range(len(out)):
            low, count = at[k], 0
            while low + count < starts[k + 1] and rows[low + count] < top + PAIR_BLOCK:
                row, source = rows[low + count], sources[low + count]
                for c in range(x.shape[1]):
                    given[count, c] = x[source, c]
                for c in range(grad.shape[1]):
                    back[count, c] = grad[row, c]
                count += 1
            if count:
                add_outer(given[:count], back[:count], out[k])
            at[k] = low + count


class PairConv(torch.autograd.Function):
    """The same sum, offset by offset over the pairs that exist: better where memory is slow.

    The way back to the features is the same sum over the mirrored kernel, as in `GatherConv`.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:  # noqa: ANN001
        """x (N, I), weight (K, I, O) -> (N, O)."""
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        return paired(x, weight, pairs)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x = paired(grad, weight.flip(0).transpose(1, 2).contiguous(), ctx.pairs)
        to_weight = torch.zeros_like(weight)
        if loops(x, grad, to_weight):
            places = (part.numpy() for part in ctx.pairs)
            pair_outers(x.numpy(), grad.numpy(), *places, to_weight.numpy())
        else:
            for k, (rows, sources) in enumerate(ctx.pairs.of_offsets()):
                to_weight[k] = x[sources].T @ grad[rows]
        return to_x, to_weight, None


def paired(x: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """y_i = sum over pairs (i, j) of an offset k of x_j W_k: (N, O)."""
    y = x.new_zeros(len(x), weight.shape[2])
    if loops(x, weight, y):
        places = (part.numpy() for part in pairs)
        pair_products(x.detach().numpy(), weight.detach().numpy(), *places, y.numpy())
        return y
    for k, (rows, sources) in enumerate(pairs.of_offsets()):
        y.index_add_(0, rows, x[sources] @ weight[k])
    return y


class SubmanifoldConv(nn.Module):
    """Voxels (N, I) -> the same voxels with features (N, O); weight (O, kz, ky, kx, I) as in checkpoints."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Sequence[int] = (3, 3, 3), bias: bool = False
    ) -> None:
        super().__init__()
        if any(size % 2 == 0 for size in kernel):
            raise ConfigError(f"a submanifold convolution has odd sizes, got {tuple(kernel)}.")
        self.kernel = tuple(kernel)
        self.weight = nn.Parameter(torch.empty(outputs, *self.kernel, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        # a voxel has about a third of its neighbours, so this start keeps the variance
        nn.init.normal_(self.weight, std=(3.0 / (self.weight[0].numel())) ** 0.5)

    def forward(self, voxels: Voxels) -> Tensor:
        x, weight = voxels.features, self.weight.flatten(1, 3).permute(1, 2, 0)  # (K, I, O)
        if torch.is_autocast_enabled(x.device.type):
            # a CPU's compiled product is one of float32
            dtype = torch.float32 if x.device.type == "cpu" else torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        weight = weight.contiguous()
        if x.device.type == "cpu":
            y = PairConv.apply(x, weight, pairs_of(voxels, self.kernel))
        else:
            y = GatherConv.apply(x, weight, neighbours(voxels, self.kernel))
        assert isinstance(y, Tensor)
        return y if self.bias is None else y + self.bias


class Reach(NamedTuple):
    """Where a strided convolution answers, and from where."""

    coords: Tensor
    """(M, 4)"""
    shape: tuple[int, int, int]
    pairs: list[tuple[Tensor, Tensor]]
    """For each offset: rows of the answer, rows that give to them."""


def reached(voxels: Voxels, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Reach:
    """Every place that some voxel reaches, in rising order of batch, x, y, z; kept for these coordinates.

    Raises:
        ConfigError: a grid that is smaller than the kernel.
    """
    name = ("reach", tuple(kernel), tuple(stride), tuple(padding))
    if name in voxels.memo:
        return voxels.memo[name]
    sizes = [
        (extent + 2 * pad - size) // step + 1
        for extent, size, step, pad in zip(voxels.shape, kernel, stride, padding, strict=True)
    ]
    if min(sizes) < 1:
        raise ConfigError(f"a grid of {voxels.shape} is smaller than a kernel of {tuple(kernel)}.")
    shape = (sizes[0], sizes[1], sizes[2])
    device = voxels.coords.device
    step = torch.tensor(list(stride), device=device)
    offsets = list(product(*(range(size) for size in kernel)))
    found, sources = [], []
    for offset in offsets:
        place = (
            voxels.coords[:, 1:]
            + torch.tensor(list(padding), device=device)
            - torch.tensor(offset, device=device)
        )
        good = (
            (place >= 0) & (place % step == 0) & (place // step < torch.tensor(shape, device=device))
        ).all(1)
        rows = good.nonzero()[:, 0]
        coords = torch.cat([voxels.coords[rows, :1], place[rows] // step], 1)
        found.append(keys(coords, shape))
        sources.append(rows)
    every, inverse = torch.cat(found).unique(sorted=True, return_inverse=True)
    pairs = list(zip(inverse.split([len(part) for part in found]), sources, strict=True))
    voxels.memo[name] = Reach(from_keys(every, shape), shape, pairs)
    return voxels.memo[name]


class ScatterConv(torch.autograd.Function):
    """y_i = sum over pairs (i, j) of an offset k of x_j W_k, with `count` rows of y."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, pairs: list[tuple[Tensor, Tensor]], count: int) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        y = x.new_zeros(count, weight.shape[2])
        for k, (rows, sources) in enumerate(pairs):
            if len(rows):
                add_rows(y, rows, take_rows(x, sources) @ weight[k])
        return y

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x, to_weight = torch.zeros_like(x), torch.zeros_like(weight)
        for k, (rows, sources) in enumerate(ctx.pairs):
            if len(rows):
                part = take_rows(grad, rows)
                add_rows(to_x, sources, part @ weight[k].T)
                to_weight[k] = take_rows(x, sources).T @ part
        return to_x, to_weight, None, None


class StridedConv(nn.Module):
    """Voxels -> voxels at every place that the kernel reaches; sizes, strides and padding on z, y, x."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int] = (3, 3, 3),
        stride: Sequence[int] = (2, 2, 2),
        padding: Sequence[int] = (1, 1, 1),
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = tuple(kernel), tuple(stride), tuple(padding)
        self.weight = nn.Parameter(torch.empty(outputs, *self.kernel, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.normal_(self.weight, std=(3.0 / self.weight[0].numel()) ** 0.5)

    def forward(self, voxels: Voxels) -> Voxels:
        reach = reached(voxels, self.kernel, self.stride, self.padding)
        weight = self.weight.flatten(1, 3).permute(1, 2, 0).contiguous()
        y = ScatterConv.apply(voxels.features, weight, reach.pairs, len(reach.coords))
        assert isinstance(y, Tensor)
        y = y if self.bias is None else y + self.bias
        return Voxels(y, reach.coords, reach.shape, voxels.batch)


class InverseConv(nn.Module):
    """From the voxels that a strided convolution reached back onto those it came from."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int] = (3, 3, 3)) -> None:
        super().__init__()
        self.kernel = tuple(kernel)
        self.weight = nn.Parameter(torch.empty(outputs, *self.kernel, inputs))
        nn.init.normal_(self.weight, std=(3.0 / self.weight[0].numel()) ** 0.5)

    def forward(self, coarse: Tensor, fine: Voxels, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
        """coarse: features (M, I) in the order in which the strided convolution of `fine` gave them."""
        reach = reached(fine, self.kernel, stride, padding)
        weight = self.weight.flatten(1, 3).permute(1, 2, 0).contiguous()
        pairs = [(sources, rows) for rows, sources in reach.pairs]
        y = ScatterConv.apply(coarse, weight, pairs, len(fine))
        assert isinstance(y, Tensor)
        return y
