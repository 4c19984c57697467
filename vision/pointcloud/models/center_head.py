"""The centre head (Yin et al. 2021, arXiv 2006.11275): a heat map of centres per class, and a box under each.

Names of parameters are those of OpenPCDet's checkpoints (`dense_head.`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vision.pointcloud.models.planes import norm

BRANCHES = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
HEAT_BIAS = -2.19
CLAMP = 1e-4


def gaussian_radius(length: float, width: float, overlap: float = 0.1) -> float:
    """How far a centre may be off, in cells, as published: no root is divided by 2 a.

    The smallest of three roots (b + sqrt(b^2 - 4 a c)) / 2; the textbook's (CornerNet) are divided by 2 a.
    """
    total, area = length + width, length * width
    roots = []
    for a, b, c in (
        (1.0, total, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    ):
        roots.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    return min(roots)


def draw_gaussian(heat: np.ndarray, column: int, row: int, radius: int) -> None:
    """Put a peak into a map (H, W), keeping what is higher."""
    sigma = (2 * radius + 1) / 6
    steps = np.arange(-radius, radius + 1)
    peak = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * sigma * sigma))
    peak[peak < np.finfo(peak.dtype).eps * peak.max()] = 0
    height, width = heat.shape
    left, right = min(column, radius), min(width - column, radius + 1)
    top, bottom = min(row, radius), min(height - row, radius + 1)
    if left + right <= 0 or top + bottom <= 0:
        return
    part = heat[row - top : row + bottom, column - left : column + right]
    cut = peak[radius - top : radius + bottom, radius - left : radius + right]
    np.maximum(part, cut, out=part)


@dataclass(frozen=True)
class CenterTargets:
    """What a centre head should say."""

    heat: Tensor
    """(B, K, H, W)"""
    boxes: Tensor
    """(B, M, 8 or 10): offset of the centre (2), z, log sizes (3), cos, sin, perhaps velocity (2)."""
    cells: Tensor
    """(B, M) y * W + x."""
    mask: Tensor
    """(B, M) 1 where there is an object."""


class CenterHead(nn.Module):
    """(B, C, H, W) -> maps by branch; one group of classes."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        bounds: Sequence[float],
        voxel: Sequence[float],
        *,
        shared: int = 64,
        stride: int = 1,
        convolutions: int = 2,
        bias: bool = False,
        branches: dict[str, int] | None = None,
    ) -> None:
        """bounds: x0 y0 z0 x1 y1 z1; voxel: its size; stride: cells of the map over voxels."""
        super().__init__()
        self.classes, self.bounds, self.voxel, self.stride = classes, tuple(bounds), tuple(voxel), stride
        branches = branches or BRANCHES
        self.codes = [*BRANCHES, *(["vel"] if "vel" in branches else [])]
        self.rates_overlap = "iou" in branches
        self.shared_conv = nn.Sequential(
            nn.Conv2d(inputs, shared, 3, 1, 1, bias=bias), norm(shared), nn.ReLU()
        )
        head = nn.Module()
        for name, outputs in {**branches, "hm": classes}.items():
            layers: list[nn.Module] = [
                nn.Sequential(nn.Conv2d(shared, shared, 3, 1, 1, bias=bias), norm(shared), nn.ReLU())
                for _ in range(convolutions - 1)
            ]
            last = nn.Conv2d(shared, outputs, 3, 1, 1)
            if name == "hm":
                nn.init.constant_(last.bias, HEAT_BIAS)  # pyright: ignore[reportArgumentType]
            head.add_module(name, nn.Sequential(*layers, last))
        self.heads_list = nn.ModuleList([head])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.shared_conv(x)
        return {name: branch(x) for name, branch in self.heads_list[0].named_children()}

    def targets(
        self, truth: Tensor, shape: tuple[int, int], most: int = 500, overlap: float = 0.1, least: int = 2
    ) -> CenterTargets:
        """Targets for boxes (B, M, 8): seven numbers and a class from 1; rows of class 0 are padding.

        With velocities (B, M, 10), vx and vy before the class.

        Args:
            shape: height and width of the map.
            most: objects that a sample may have.
            least: smallest radius of a peak, in cells.
        """
        height, width = shape
        batch = len(truth)
        heat = np.zeros((batch, self.classes, height, width), np.float32)
        boxes = np.zeros((batch, most, truth.shape[2]), np.float32)
        cells, mask = np.zeros((batch, most), np.int64), np.zeros((batch, most), np.int64)
        for b, rows in enumerate(truth.detach().cpu().numpy()):
            rows = rows[rows[:, -1] > 0][:most]
            for k, row in enumerate(rows):
                x = np.float32((row[0] - self.bounds[0]) / self.voxel[0] / self.stride)
                y = np.float32((row[1] - self.bounds[1]) / self.voxel[1] / self.stride)
                x, y = np.clip(x, 0, width - np.float32(0.5)), np.clip(y, 0, height - np.float32(0.5))
                column, line = int(x), int(y)
                length, across = row[3] / self.voxel[0] / self.stride, row[4] / self.voxel[1] / self.stride
                if length <= 0 or across <= 0 or not (0 <= column <= width and 0 <= line <= height):
                    continue
                radius = max(int(gaussian_radius(float(length), float(across), overlap)), least)
                draw_gaussian(heat[b, int(row[-1]) - 1], column, line, radius)
                cells[b, k], mask[b, k] = line * width + column, 1
                boxes[b, k, :2] = x - column, y - line
                boxes[b, k, 2] = row[2]
                boxes[b, k, 3:6] = np.log(row[3:6])
                boxes[b, k, 6:8] = np.cos(row[6]), np.sin(row[6])
                boxes[b, k, 8:] = row[7:-1]
        tensors = (torch.from_numpy(part).to(truth.device) for part in (heat, boxes, cells, mask))
        return CenterTargets(*tensors)

    def loss(
        self, maps: dict[str, Tensor], targets: CenterTargets, place_weight: float = 2.0
    ) -> dict[str, Tensor]:
        """Focal loss of the heat map, L1 of the boxes at the centres, perhaps of overlaps, and their sum.

        The overlap branch learns 2 IoU - 1 of the box that is decoded at a centre with the truth there.
        """
        p = maps["hm"].sigmoid().clamp(CLAMP, 1 - CLAMP)
        centre = (targets.heat == 1).float()
        found = p.log() * (1 - p).square() * centre
        clear = (1 - p).log() * p.square() * (1 - targets.heat).pow(4) * (1 - centre)
        heat = -(found.sum() + clear.sum()) / centre.sum().clamp(min=1)
        values = torch.cat([maps[name] for name in self.codes], 1).flatten(2).mT  # (B, H W, 8 or 10)
        at = values.gather(1, targets.cells[..., None].expand(-1, -1, values.shape[2]))
        mask = targets.mask[..., None].to(at.dtype)
        place = ((at - targets.boxes) * mask).abs().sum() / mask.sum().clamp(min=1)
        parts = {"heat": heat, "place": place_weight * place}
        if self.rates_overlap:
            width = maps["hm"].shape[3]
            with torch.no_grad():
                theirs, ours = (self.boxes_at(part, targets.cells, width) for part in (targets.boxes, at))
                wanted = 2 * paired_iou(ours, theirs) - 1
            said = maps["iou"].flatten(2).mT.gather(1, targets.cells[..., None])
            gap = ((said[..., 0] - wanted).abs() * mask[..., 0]).sum()
            parts["iou"] = gap / mask.sum().clamp(min=1)
        return {**parts, "loss": torch.stack(list(parts.values())).sum()}

    def boxes_at(self, codes: Tensor, cells: Tensor, width: int) -> Tensor:
        """Boxes (B, M, 7 or 9) of codes (B, M, 8 or 10) at cells (B, M) of a map of so many columns."""
        x = (cells % width + codes[..., 0]) * self.stride * self.voxel[0] + self.bounds[0]
        y = (cells // width + codes[..., 1]) * self.stride * self.voxel[1] + self.bounds[1]
        heading = torch.atan2(codes[..., 7], codes[..., 6])[..., None]
        place = torch.stack([x, y, codes[..., 2]], -1)
        return torch.cat([place, codes[..., 3:6].exp(), heading, codes[..., 8:]], -1)

    def decode(
        self, maps: dict[str, Tensor], most: int = 500, trust: Sequence[float] = (0.68, 0.71, 0.65)
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The best boxes (most, 7 or 9), scores, classes from 0 of each sample, before thresholds and NMS.

        trust: a of each class, score = class^(1 - a) overlap^a; the last one goes for the rest.
        """
        heat = maps["hm"].sigmoid()
        _, classes, height, width = heat.shape
        scores, cells = heat.flatten(2).topk(min(most, height * width))  # (B, K, most)
        scores, chosen = scores.flatten(1).topk(min(most, classes * scores.shape[2]))
        kinds = chosen // cells.shape[2]
        cells = cells.flatten(1).gather(1, chosen)
        values = torch.cat([maps[name] for name in self.codes], 1).flatten(2).mT
        at = values.gather(1, cells[..., None].expand(-1, -1, values.shape[2]))
        boxes = self.boxes_at(at, cells, width)
        if self.rates_overlap:
            said = maps["iou"].flatten(2).mT.gather(1, cells[..., None])[..., 0]
            a = scores.new_tensor([*trust, *[trust[-1]] * classes])[kinds]
            scores = scores ** (1 - a) * ((said + 1) / 2).clamp(0, 1) ** a
        return list(zip(boxes.unbind(0), scores.unbind(0), kinds.unbind(0), strict=True))


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlaps of volumes of boxes (B, M, 7+) with those at the same places, (B, M)."""
    from vision.pointcloud.iou import iou_3d

    ours, theirs = (x[..., :7].detach().double().cpu().numpy() for x in (a, b))
    rows = [
        [float(iou_3d(p[None], q[None])[0, 0]) if q[3] > 0 else 0.0 for p, q in zip(one, other, strict=True)]
        for one, other in zip(ours, theirs, strict=True)
    ]
    return torch.tensor(rows, dtype=a.dtype, device=a.device).view(a.shape[:2])
