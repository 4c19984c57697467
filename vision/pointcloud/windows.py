"""Orders of voxels by windows, and equal groups along an order, as published for LION.

Groups ignore the borders of windows: a window is only a device for ordering.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled
from vision.pointcloud.orders import curve_keys
from vision.pointcloud.voxels import Voxels


@dataclass(frozen=True)
class Groups:
    """How the rows of one order are cut into groups of equal size."""

    to_slots: Tensor
    """(slots,) which sorted row a slot holds; the last group of a sample repeats earlier rows."""
    to_rows: Tensor
    """(N,) the slot of each sorted row."""
    filled: Tensor
    """(groups,) how many slots from the first hold rows of their own."""


def window_order(
    coords: Tensor, shape: Sequence[int], window: Sequence[int], shift: bool, first: str
) -> Tensor:
    """The permutation (N,) that sorts voxels by window and place inside; arguments as of `window_key`."""
    if coords.device.type != "cpu":
        return window_key(coords, shape, window, shift, first).argsort()
    key = np.empty(len(coords), np.int64)
    rows, sizes = coords.long().contiguous().numpy(), np.array([*shape, *window], np.int64)
    window_loop(rows, sizes[:3], sizes[3:], shift, first == "x", key)
    return torch.from_numpy(key).argsort()


def window_key(
    coords: Tensor, shape: Sequence[int], window: Sequence[int], shift: bool, first: str
) -> Tensor:
    """Numbers (N,) that rise by window and place inside, different for different voxels.

    Args:
        coords: (N, 4) batch, z, y, x.
        shape: extents z, y, x.
        window: sizes on x, y, z.
        shift: whether windows begin half a window earlier.
        first: "x" sorts by (window x, y, z, inside x, y, z), "y" with x and y exchanged.
    """
    batch, z, y, x = coords.long().unbind(1)
    axes = {}
    for name, place, extent, size in zip("xyz", (x, y, z), reversed(list(shape)), window, strict=True):
        place = place + size // 2 if shift else place
        axes[name] = (place // size, place % size, -(-extent // size) + 1, size)
    names = "xyz" if first == "x" else "yxz"
    key = batch
    for name in names:
        key = key * axes[name][2] + axes[name][0]
    for name in names:
        key = key * axes[name][3] + axes[name][1]
    return key


@compiled
def window_loop(coords, shape, window, shift, along_x, key):  # noqa: ANN001, ANN201
    """The numbers of `window_key`, voxel by voxel, into key (N,)."""
    axes = (0, 1, 2) if along_x else (1, 0, 2)
    for p in range(len(coords)):
        number = coords[p, 0]
        for axis in axes:
            size = window[axis]
            place = coords[p, 3 - axis] + (size // 2 if shift else 0)
            number = number * (-(-shape[2 - axis] // size) + 1) + place // size
        for axis in axes:
            size = window[axis]
            place = coords[p, 3 - axis] + (size // 2 if shift else 0)
            number = number * size + place % size
        key[p] = number


def order_of(voxels: Voxels, window: Sequence[int], shift: bool, name: str) -> Tensor:
    """A permutation (N,) by name: windows "x", "y", or a curve, whose shift moves it by half a window."""
    if name in ("x", "y"):
        return window_order(voxels.coords, voxels.shape, window, shift, name)
    step = [size // 2 if shift else 0 for size in reversed(window)]
    coords = voxels.coords + voxels.coords.new_tensor([0, *step])
    most = max(extent + move for extent, move in zip(voxels.shape, step, strict=True))
    return curve_keys(coords, name, max(1, (most - 1).bit_length())).argsort()


def equal_groups(batch_of_row: Tensor, batch: int, size: int) -> Groups:
    """Cut sorted rows of a batch into groups of `size`; 0 makes one group of each sample.

    Slots beyond the rows of a sample hold the row one group earlier, or its rows over again when it has
    fewer than `size`.
    """
    device = batch_of_row.device
    count = torch.bincount(batch_of_row, minlength=batch)
    if size == 0:
        size = max(1, int(count.max())) if batch else 1
    padded = (count + size - 1) // size * size
    row0, slot0 = count.cumsum(0) - count, padded.cumsum(0) - padded
    sample = torch.repeat_interleave(torch.arange(batch, device=device), padded)
    place = torch.arange(len(sample), device=device) - slot0[sample]
    n = count[sample]
    source = torch.where(place < n, place, torch.where(n >= size, place - size, place % n.clamp(min=1)))
    rows = torch.arange(len(batch_of_row), device=device)
    filled = (n[::size] - place[::size]).clamp(max=size)
    return Groups(source + row0[sample], rows + (slot0 - row0)[batch_of_row], filled)


def mapping(
    voxels: Voxels, window: Sequence[int], size: int, shift: bool, directions: Sequence[str]
) -> tuple[dict[str, Tensor], Groups]:
    """Orders by direction and the groups that they share; worked out once for a set of coordinates."""
    name = ("windows", tuple(window), size, shift, tuple(directions))
    if name not in voxels.memo:
        orders = {first: order_of(voxels, window, shift, first) for first in directions}
        sample = voxels.coords[:, 0].sort().values
        voxels.memo[name] = orders, equal_groups(sample, voxels.batch, size)
    return voxels.memo[name]


def slots(
    voxels: Voxels, window: Sequence[int], size: int, shift: bool, directions: Sequence[str]
) -> tuple[dict[str, tuple[Tensor, Tensor]], Groups]:
    """By direction the row that each slot of the groups holds (slots,) and the slot of each row (N,)."""
    name = ("slots", tuple(window), size, shift, tuple(directions))
    if name not in voxels.memo:
        orders, groups = mapping(voxels, window, size, shift, directions)
        places = {}
        for first, order in orders.items():
            back = torch.empty_like(groups.to_rows).index_copy_(0, order, groups.to_rows)
            places[first] = order[groups.to_slots], back
        voxels.memo[name] = places, groups
    return voxels.memo[name]
