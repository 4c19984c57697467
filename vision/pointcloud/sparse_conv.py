"""Convolutions over occupied voxels only, in tensor code: no extension, any device, both passes.

A submanifold convolution answers at its input's voxels. The table of neighbours (N, K) is looked up once
for a set of coordinates and shared by every layer on it.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.jit import compiled
from vision.pointcloud.rows import add_rows, take_rows
from vision.pointcloud.voxels import Voxels, from_keys, keys

LARGEST_GRID = 1 << 27
"""Cells of a grid that is looked up through a dense index; larger ones are searched."""


def neighbours(voxels: Voxels, kernel: Sequence[int]) -> Tensor:
    """(N, K) int64: the row at each offset of a kernel (z, y, x), N where there is no voxel."""
    name = ("neighbours", tuple(kernel))
    if name not in voxels.memo:
        voxels.memo[name] = look_up(voxels, kernel)
    return voxels.memo[name]


def look_up(voxels: Voxels, kernel: Sequence[int]) -> Tensor:
    coords, count = voxels.coords, len(voxels)
    depth, height, width = (
        extent + 2 * (size // 2) for extent, size in zip(voxels.shape, kernel, strict=True)
    )
    # a rim as wide as the kernel reaches, so that no offset leaves the grid
    batch, z, y, x = coords.unbind(1)
    z, y, x = z + kernel[0] // 2, y + kernel[1] // 2, x + kernel[2] // 2
    key = ((batch * depth + z) * height + y) * width + x
    steps = [range(-(size // 2), size // 2 + 1) for size in kernel]
    offsets = torch.tensor(
        [(dz * height + dy) * width + dx for dz, dy, dx in product(*steps)], device=coords.device
    )
    cells = voxels.batch * depth * height * width
    wanted = key[:, None] + offsets
    if cells <= LARGEST_GRID:
        index = torch.full((cells,), count, dtype=torch.int32, device=coords.device)
        index[key] = torch.arange(count, dtype=torch.int32, device=coords.device)
        return index[wanted].long()
    ordered, rows = key.sort()
    at = torch.searchsorted(ordered, wanted).clamp(max=max(0, count - 1))
    return torch.where(ordered[at] == wanted, rows[at], count)


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


class PairConv(torch.autograd.Function):
    """The same sum, offset by offset over the pairs that exist: better where memory is slow."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        middle = len(pairs) // 2
        y = x @ weight[middle]
        for k, (rows, sources) in enumerate(pairs):
            if k != middle and len(rows):
                add_rows(y, rows, take_rows(x, sources) @ weight[k])
        return y

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        middle = len(ctx.pairs) // 2
        to_x = grad @ weight[middle].T
        to_weight = torch.zeros_like(weight)
        to_weight[middle] = x.T @ grad
        for k, (rows, sources) in enumerate(ctx.pairs):
            if k != middle and len(rows):
                part = take_rows(grad, rows)
                add_rows(to_x, sources, part @ weight[k].T)
                to_weight[k] = take_rows(x, sources).T @ part
        return to_x, to_weight, None


@compiled
def pair_loop(coords, shape, reach, index, rows, sources, counts):  # noqa: ANN001, ANN201
    """Fill rows and sources (K, N) with the pairs of each offset, counts (K,) with how many there are.

    `index` is a grid of zeros, filled with row + 1 on the way.
    """
    depth, height, width = shape
    rz, ry, rx = reach
    for p in range(len(coords)):
        b, z, y, x = coords[p, 0], coords[p, 1], coords[p, 2], coords[p, 3]
        index[((b * depth + z) * height + y) * width + x] = p + 1
    for p in range(len(coords)):
        b, z, y, x = coords[p, 0], coords[p, 1], coords[p, 2], coords[p, 3]
        k = -1
        for dz in range(-rz, rz + 1):
            for dy in range(-ry, ry + 1):
                line = ((b * depth + z + dz) * height + y + dy) * width
                inside = 0 <= z + dz < depth and 0 <= y + dy < height
                for dx in range(-rx, rx + 1):
                    k += 1
                    if inside and 0 <= x + dx < width:
                        q = index[line + x + dx]
                        if q:
                            rows[k, counts[k]], sources[k, counts[k]] = p, q - 1
                            counts[k] += 1


def compiled_pairs(voxels: Voxels, kernel: Sequence[int]) -> list[tuple[Tensor, Tensor]] | None:
    """The pairs by a compiled loop over a dense index; None where the grid is too large for one."""
    cells = voxels.batch * math.prod(voxels.shape)
    if cells > LARGEST_GRID:
        return None
    count, offsets = len(voxels), math.prod(kernel)
    rows, sources = np.empty((offsets, count), np.int64), np.empty((offsets, count), np.int64)
    counts = np.zeros(offsets, np.int64)
    reach = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    coords = np.ascontiguousarray(voxels.coords.numpy(), np.int64)
    pair_loop(coords, voxels.shape, reach, np.zeros(cells, np.int32), rows, sources, counts)
    both = zip(torch.from_numpy(rows), torch.from_numpy(sources), counts.tolist(), strict=True)
    return [(row[:n], source[:n]) for row, source, n in both]


def pairs_of(voxels: Voxels, kernel: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """For each offset, the rows that have a neighbour there and which it is."""
    name = ("pairs", tuple(kernel))
    if name not in voxels.memo and voxels.coords.device.type == "cpu":
        found = compiled_pairs(voxels, kernel)
        if found is not None:
            voxels.memo[name] = found
    if name not in voxels.memo:
        table = neighbours(voxels, kernel)
        rows = [(column < len(voxels)).nonzero()[:, 0] for column in table.unbind(1)]
        voxels.memo[name] = [(row, table[row, k]) for k, row in enumerate(rows)]
    return voxels.memo[name]


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
            dtype = torch.get_autocast_dtype(x.device.type)
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
    """Every place that some voxel reaches, in rising order of batch, x, y, z; kept for these coordinates."""
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
                y.index_add_(0, rows, x[sources] @ weight[k])
        return y

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        grad = grads[0]
        to_x, to_weight = torch.zeros_like(x), torch.zeros_like(weight)
        for k, (rows, sources) in enumerate(ctx.pairs):
            if len(rows):
                part = grad[rows]
                to_x.index_add_(0, sources, part @ weight[k].T)
                to_weight[k] = x[sources].T @ part
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
