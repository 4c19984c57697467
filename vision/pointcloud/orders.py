"""Space-filling orders of voxels: Morton (Z-order) and Hilbert (Skilling 2004), as numbers to sort by.

An order is a bijection: no two voxels of a sample share a key, up to the border of the grid.
"""

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from core.kernels.jit import compiled

NAMES = ("z", "z-trans", "hilbert", "hilbert-trans")
MOST_BITS = 20


@compiled
def morton_loop(places, bits, out):  # noqa: ANN001, ANN201
    for row in range(len(places)):
        key = np.int64(0)
        for bit in range(bits - 1, -1, -1):
            for axis in range(places.shape[1]):
                key = (key << 1) | ((places[row, axis] >> bit) & 1)
        out[row] = key


@compiled
def hilbert_loop(places, bits, out):  # noqa: ANN001, ANN201
    axes = places.shape[1]
    x = np.empty(axes, np.int64)
    for row in range(len(places)):
        for axis in range(axes):
            x[axis] = places[row, axis]
        q = np.int64(1) << (bits - 1)
        while q > 1:
            m = q - 1
            for axis in range(axes):
                if x[axis] & q:
                    x[0] ^= m
                else:
                    t = (x[0] ^ x[axis]) & m
                    x[0] ^= t
                    x[axis] ^= t
            q >>= 1
        if axes:
            key = np.int64(0)
            for bit in range(bits - 1, -1, -1):
                for axis in range(axes):
                    key = (key << 1) | ((x[axis] >> bit) & 1)
            shift = 1
            while shift < bits * axes:
                key ^= key >> shift
                shift *= 2
            out[row] = key


def checked(places: Tensor, bits: int) -> None:
    """Refuse what does not fit the curve: a key would silently be another voxel's.

    Raises:
        DataError: a coordinate below 0 or of more than `bits` bits.
    """
    if not 1 <= bits <= MOST_BITS:
        raise DataError(f"a curve has 1 to {MOST_BITS} bits, got {bits}.")
    if len(places) and (int(places.min()) < 0 or int(places.max()) >= 1 << bits):
        raise DataError(
            f"coordinates {int(places.min())} to {int(places.max())} do not fit a curve of {bits} bits "
            f"(0 to {(1 << bits) - 1})."
        )


def morton(places: Tensor, bits: int) -> Tensor:
    """Interleaved bits of the columns of (N, axes), the first column the most significant of each group."""
    checked(places, bits)
    if places.device.type == "cpu":
        out = np.empty(len(places), np.int64)
        morton_loop(np.ascontiguousarray(places.numpy(), np.int64), bits, out)
        return torch.from_numpy(out)
    return interleave(places.long(), bits)


def interleave(places: Tensor, bits: int) -> Tensor:
    """Bits of the columns one after another, in tensor code."""
    key = torch.zeros(len(places), dtype=torch.int64, device=places.device)
    for bit in range(bits - 1, -1, -1):
        for column in places.unbind(1):
            key = (key << 1) | ((column >> bit) & 1)
    return key


def hilbert(places: Tensor, bits: int) -> Tensor:
    """Place along the Hilbert curve of (N, axes), the first axis the slowest: (N,) int64."""
    checked(places, bits)
    if places.device.type == "cpu":
        out = np.empty(len(places), np.int64)
        hilbert_loop(np.ascontiguousarray(places.numpy(), np.int64), bits, out)
        return torch.from_numpy(out)
    return hilbert_tensor(places, bits)


def hilbert_tensor(places: Tensor, bits: int) -> Tensor:
    """The same in tensor code, for other devices."""
    x = list(places.long().clone().unbind(1))
    for level in range(bits - 1, 0, -1):
        q, m = 1 << level, (1 << level) - 1
        for axis in range(len(x)):
            on = (x[axis] & q) != 0
            t = torch.where(on, 0, (x[0] ^ x[axis]) & m)
            first = torch.where(on, x[0] ^ m, x[0] ^ t)
            if axis:
                x[axis] = x[axis] ^ t
            x[0] = first
    key, shift = interleave(torch.stack(x, 1), bits), 1
    while shift < bits * len(x):
        key = key ^ (key >> shift)
        shift *= 2
    return key


def curve_keys(coords: Tensor, name: str, bits: int) -> Tensor:
    """Keys of voxels (N, 4) batch, z, y, x along a named curve, samples one after another.

    Raises:
        DataError: no such curve, or coordinates that do not fit it.
    """
    if name not in NAMES:
        raise DataError(f"no order {name!r}; there are {', '.join(NAMES)}.")
    columns = [3, 2, 1] if not name.endswith("-trans") else [2, 3, 1]
    curve = hilbert if name.startswith("hilbert") else morton
    return (coords[:, 0].long() << (3 * bits)) | curve(coords[:, columns], bits)
