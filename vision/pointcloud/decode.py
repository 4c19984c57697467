"""Maps of a crop -> boxes: peaks of the heat map, and the nine numbers under them."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vision.pointcloud.crops import LOW, OUT_CELL

PEAKS = 120
"""Most boxes of a crop."""


def decode_maps(logits: Tensor, numbers: Tensor, floor: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes (n, 7 or 9) and their scores and classes (n, 2) of each crop, best first.

    Args:
        logits: heat maps (B, K, H, W).
        numbers: (B, 9, H, W), or (B, 11, H, W) with velocities; then boxes are (n, 9).
        floor: smallest score.
    """
    heat = logits.float().sigmoid()
    peak = functional.max_pool2d(heat, 3, 1, 1) == heat
    kinds, rows, columns = heat.shape[1:]
    scores, places = (heat * peak).flatten(1).topk(min(PEAKS, kinds * rows * columns))
    out = []
    for crop in range(len(heat)):
        good = scores[crop] > floor
        score, place = scores[crop][good], places[crop][good]
        kind, cell = place // (rows * columns), place % (rows * columns)
        values = numbers[crop].float().flatten(1)[:, cell].T.cpu().numpy().astype(np.float64)
        cell = cell.cpu().numpy()
        axis = np.arctan2(values[:, 7], values[:, 6]) / 2
        ahead = (values[:, 8] > 0) == (np.cos(axis) + np.sin(axis) > 0)
        heading = np.where(ahead, axis, axis + math.pi)
        boxes = np.column_stack(
            [
                LOW + (cell % columns + 0.5 + values[:, 0]) * OUT_CELL,
                LOW + (cell // columns + 0.5 + values[:, 1]) * OUT_CELL,
                values[:, 2],
                np.exp(values[:, 3:6].clip(-3, 3)),
                heading,
                values[:, 9:],
            ]
        )
        labels = torch.stack([score, kind.to(score.dtype)], 1).cpu().numpy()
        out.append((boxes, labels))
    return out
