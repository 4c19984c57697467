"""A 3x3 convolution of a volume seen from above, over the columns that hold a voxel."""

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled
from core.kernels.matmul import multiply_panels, pack
from vision.pointcloud.voxels import Voxels

BLOCK = 256
"""Columns that are multiplied together."""


def spread(voxels: Voxels, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a convolution (O, Z * C, 3, 3) with a rim of one gives on `from_above_as_stored`: (B, O, Y, X).

    Voxels come in rising order of batch, x, y, z, as every part of this package leaves them.
    """
    depth, height, width = voxels.shape
    x = voxels.features.detach().contiguous()
    taps = weight.detach().to(x.dtype).permute(2, 3, 1, 0).flatten(0, 1).contiguous()  # (9, Z * C, O)
    out = torch.zeros(voxels.batch, height, width, weight.shape[0], dtype=x.dtype)
    if bias is not None:
        out += bias.detach()
    if len(voxels):
        coords = voxels.coords.contiguous().numpy()
        spread_loop(x.numpy(), coords, taps.numpy(), depth, out.numpy())
    return out.permute(0, 3, 1, 2)


@compiled
def spread_loop(x, coords, taps, depth, out):  # noqa: ANN001, ANN201
    """out (B, Y, X, O) += every column of x (N, C) times each tap, at the neighbour that it speaks for."""
    channels = x.shape[1]
    height, width, outputs = out.shape[1], out.shape[2], out.shape[3]
    first = pack(taps[0])
    panels = np.empty((9, first.shape[0], first.shape[1], first.shape[2]), x.dtype)
    for k in range(9):
        panels[k] = pack(taps[k])
    column, place = np.empty((BLOCK, depth * channels), x.dtype), np.empty((BLOCK, 3), np.int64)
    product, zero = np.empty((BLOCK, outputs), x.dtype), np.zeros((1, outputs), x.dtype)
    p = 0
    while p < len(x):
        count = 0
        while p < len(x) and count < BLOCK:
            b, i, j = coords[p, 0], coords[p, 2], coords[p, 3]
            column[count] = 0
            while p < len(x) and coords[p, 0] == b and coords[p, 2] == i and coords[p, 3] == j:
                z = coords[p, 1] * channels
                for c in range(channels):
                    column[count, z + c] = x[p, c]
                p += 1
            place[count, 0], place[count, 1], place[count, 2] = b, i, j
            count += 1
        for k in range(9):
            multiply_panels(column[:count], panels[k], zero, product[:count])
            for n in range(count):
                i, j = place[n, 1] + 1 - k // 3, place[n, 2] + 1 - k % 3
                if 0 <= i < height and 0 <= j < width:
                    for c in range(outputs):
                        out[place[n, 0], i, j, c] += product[n, c]
