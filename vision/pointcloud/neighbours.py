"""Which voxels lie beside which: a table of rows for GPUs, lists of pairs for CPUs.

Both are worked out once for a set of coordinates and shared by every layer on it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled
from vision.pointcloud.voxels import LARGEST_GRID, Voxels


def neighbours(voxels: Voxels, kernel: Sequence[int]) -> Tensor:
    """(N, K) int64: the row at each offset of a kernel (z, y, x), N where there is no voxel."""
    name = ("neighbours", tuple(kernel))
    if name not in voxels.memo:
        voxels.memo[name] = look_up(voxels, kernel)
    return voxels.memo[name]


def look_up(voxels: Voxels, kernel: Sequence[int]) -> Tensor:
    """The same, found anew: by a map of the grid, or by search where the grid is large."""
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


class Pairs(NamedTuple):
    """The pairs of all offsets of a kernel, offset after offset; rows rise within each."""

    rows: Tensor
    """(P,) int64: who has a neighbour."""
    sources: Tensor
    """(P,) int64: which row it is."""
    starts: Tensor
    """(K + 1,) int64: where the pairs of each offset begin."""

    def of_offsets(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and sources of one offset after another."""
        bounds = self.starts.tolist()
        for low, high in pairwise(bounds):
            yield self.rows[low:high], self.sources[low:high]


def joined(parts: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> Pairs:
    """Pairs of offsets as one."""
    sizes = torch.tensor([0, *(len(rows) for rows, _ in parts)], device=device)
    return Pairs(torch.cat([rows for rows, _ in parts]), torch.cat([of for _, of in parts]), sizes.cumsum(0))


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


def compiled_pairs(voxels: Voxels, kernel: Sequence[int]) -> Pairs | None:
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
    return joined([(row[:n], source[:n]) for row, source, n in both], voxels.coords.device)


def pairs_of(voxels: Voxels, kernel: Sequence[int]) -> Pairs:
    """For each offset, the rows that have a neighbour there and which it is."""
    name = ("pairs", tuple(kernel))
    if name not in voxels.memo and voxels.coords.device.type == "cpu":
        found = compiled_pairs(voxels, kernel)
        if found is not None:
            voxels.memo[name] = found
    if name not in voxels.memo:
        table = neighbours(voxels, kernel)
        rows = [(column < len(voxels)).nonzero()[:, 0] for column in table.unbind(1)]
        voxels.memo[name] = joined([(row, table[row, k]) for k, row in enumerate(rows)], table.device)
    return voxels.memo[name]
