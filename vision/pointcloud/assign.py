"""What the heads of a crop should say: heat maps with long Gaussians for cars, eight numbers at centres.

The doubled angle (cos 2a, sin 2a) does not know front from back, so the axis is learned from the first
minute; a ninth number says which end is the front: whether it points to +x +y rather than to -x -y. Roads run
along x or y far more often than along the diagonal where that answer turns over.
"""

import math

import numpy as np

from core.kernels.jit import compiled

CAR, PEDESTRIAN, CYCLIST = range(3)
NUMBERS = 9
"""Offset x, y in cells, z above ground, ln l, ln w, ln h, cos 2a, sin 2a, front."""
SPEEDS = 2
"""Beside those where sweeps follow each other: velocity along x and y, m/s."""
NEUTRAL = -1


@compiled
def draw_targets(boxes, kinds, low, cell, heat, mask, numbers, weight):  # noqa: ANN001, ANN201
    """Fill the maps of one crop.

    Args:
        boxes: (M, 7) in the frame of the crop, heights above ground, or (M, 9) with velocities.
        kinds: (M,) Car, Pedestrian, Cyclist, or `NEUTRAL`: no target, no false alarm.
        low: where the map begins on x and y, in metres.
        cell: metres of a cell.
        heat: (3, H, W) zeros; x runs along the last axis.
        mask: (H, W) ones; the heat loss counts where it is 1.
        numbers: (9, H, W) zeros, or (11, H, W) for velocities too.
        weight: (H, W) zeros: of the regression.
    """
    rows, columns = heat.shape[1], heat.shape[2]
    for turn in range(2):  # neutral places first, so that they never cover a centre
        for b in range(len(boxes)):
            x, y, heading, kind = boxes[b, 0], boxes[b, 1], boxes[b, 6], kinds[b]
            c, s = math.cos(heading), math.sin(heading)
            length, width = boxes[b, 3], boxes[b, 4]
            if (kind == NEUTRAL) != (turn == 0):
                continue
            if kind == NEUTRAL:
                reach = 0.5 * math.sqrt(length * length + width * width) + 0.4
            elif kind == CAR:
                reach = 3 * max(0.19 * length, 1.1 * cell)
            else:
                reach = 3 * cell
            i0, i1 = int((y - reach - low) / cell), int((y + reach - low) / cell)
            j0, j1 = int((x - reach - low) / cell), int((x + reach - low) / cell)
            centre_i, centre_j = math.floor((y - low) / cell), math.floor((x - low) / cell)
            for i in range(max(0, i0), min(rows, i1 + 1)):
                for j in range(max(0, j0), min(columns, j1 + 1)):
                    px, py = low + (j + 0.5) * cell, low + (i + 0.5) * cell
                    dx, dy = px - x, py - y
                    along, across = c * dx + s * dy, c * dy - s * dx
                    if kind == NEUTRAL:
                        if abs(along) < length / 2 + 0.2 and abs(across) < width / 2 + 0.2:
                            mask[i, j] = 0
                        continue
                    # measured from the middle of the centre's cell, so that it is 1 there and nowhere else
                    mx, my = (j - centre_j) * cell, (i - centre_i) * cell
                    if kind == CAR:
                        along, across = c * mx + s * my, c * my - s * mx
                        u, v = along / max(0.19 * length, 1.1 * cell), across / (1.1 * cell)
                        value = math.exp(-0.5 * (u * u + v * v))
                    else:
                        spread = (0.6 if kind == PEDESTRIAN else 0.75) * cell
                        value = math.exp(-0.5 * (mx * mx + my * my) / (spread * spread))
                    heat[kind, i, j] = max(heat[kind, i, j], value)
                    centre = i == centre_i and j == centre_j
                    share = 1.0 if centre else 0.5 * value if kind == CAR and value > 0.5 else 0.0
                    if centre:
                        mask[i, j] = 1
                    if share > weight[i, j]:
                        weight[i, j] = share
                        numbers[0, i, j], numbers[1, i, j] = -dx / cell, -dy / cell
                        numbers[2, i, j] = boxes[b, 2]
                        for k in range(3):
                            numbers[3 + k, i, j] = math.log(max(0.05, boxes[b, 3 + k]))
                        numbers[6, i, j], numbers[7, i, j] = math.cos(2 * heading), math.sin(2 * heading)
                        numbers[8, i, j] = 1.0 if c + s > 0 else 0.0
                        for k in range(NUMBERS, len(numbers)):
                            numbers[k, i, j] = boxes[b, k - 2]


def empty_targets(size: int, more: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """heat, mask, numbers, weight of a crop of size x size cells without objects; `more` numbers a box."""
    return (
        np.zeros((3, size, size), np.float32),
        np.ones((size, size), np.float32),
        np.zeros((NUMBERS + more, size, size), np.float32),
        np.zeros((size, size), np.float32),
    )
