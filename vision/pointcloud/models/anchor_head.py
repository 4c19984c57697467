"""The anchor head of SECOND and PointPillars: boxes as differences from anchors of two rotations per class.

Names of parameters are those of OpenPCDet's checkpoints (`dense_head.`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

DIRECTION_OFFSET = 0.78539
ALPHA, GAMMA, BETA = 0.25, 2.0, 1 / 9


@dataclass(frozen=True)
class Anchors:
    """Anchors of one class."""

    size: tuple[float, float, float]
    bottom: float
    matched: float
    """Overlap from which an anchor is positive."""
    unmatched: float
    """Overlap below which it is negative."""
    rotations: tuple[float, ...] = (0.0, 1.57)


def encode(boxes: Tensor, anchors: Tensor, sine: bool = False) -> Tensor:
    """Boxes (N, 7) as differences from anchors (N, 7): (N, 7), or (N, 8) with cos and sin of the angle."""
    boxes = torch.cat([boxes[:, :3], boxes[:, 3:6].clamp(min=1e-5), boxes[:, 6:]], 1)
    anchors = torch.cat([anchors[:, :3], anchors[:, 3:6].clamp(min=1e-5), anchors[:, 6:]], 1)
    diagonal = anchors[:, 3:5].norm(dim=1)
    parts = [
        (boxes[:, 0] - anchors[:, 0]) / diagonal,
        (boxes[:, 1] - anchors[:, 1]) / diagonal,
        (boxes[:, 2] - anchors[:, 2]) / anchors[:, 5],
        *(boxes[:, 3:6] / anchors[:, 3:6]).log().unbind(1),
    ]
    if sine:
        parts += [boxes[:, 6].cos() - anchors[:, 6].cos(), boxes[:, 6].sin() - anchors[:, 6].sin()]
    else:
        parts.append(boxes[:, 6] - anchors[:, 6])
    return torch.stack(parts, 1)


def decode(codes: Tensor, anchors: Tensor, sine: bool = False) -> Tensor:
    """The inverse of `encode`: (..., 7)."""
    diagonal = anchors[..., 3:5].norm(dim=-1)
    x = codes[..., 0] * diagonal + anchors[..., 0]
    y = codes[..., 1] * diagonal + anchors[..., 1]
    z = codes[..., 2] * anchors[..., 5] + anchors[..., 2]
    size = codes[..., 3:6].exp() * anchors[..., 3:6]
    if sine:
        heading = torch.atan2(codes[..., 7] + anchors[..., 6].sin(), codes[..., 6] + anchors[..., 6].cos())
    else:
        heading = codes[..., 6] + anchors[..., 6]
    return torch.cat([torch.stack([x, y, z], -1), size, heading[..., None]], -1)


def nearest_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap (N, M) from above of boxes turned to the nearest axis."""
    a, b = upright(a), upright(b)
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return shared / (area_a[:, None] + area_b[None] - shared).clamp(min=1e-6)


def upright(boxes: Tensor) -> Tensor:
    """x0 y0 x1 y1 of boxes turned to the nearest axis."""
    turn = limit(boxes[:, 6], 0.5, math.pi).abs()
    size = torch.where((turn < math.pi / 4)[:, None], boxes[:, 3:5], boxes[:, [4, 3]])
    return torch.cat([boxes[:, :2] - size / 2, boxes[:, :2] + size / 2], 1)


def limit(angle: Tensor, offset: float, period: float) -> Tensor:
    """An angle moved by whole periods into [-offset period, (1 - offset) period)."""
    return angle - torch.floor(angle / period + offset) * period


@dataclass(frozen=True)
class AnchorTargets:
    """Class (-1 ignored, 0 background), box code and weight of every anchor."""

    labels: Tensor
    codes: Tensor
    weights: Tensor


class AnchorHead(nn.Module):
    """(B, C, H, W) -> class logits, box codes and directions of every anchor."""

    def __init__(
        self, inputs: int, classes: Sequence[Anchors], shape: tuple[int, int], bounds: Sequence[float]
    ) -> None:
        """shape: height and width of the map; bounds: x0 y0 z0 x1 y1 z1."""
        super().__init__()
        self.classes = tuple(classes)
        per_cell = sum(len(kind.rotations) for kind in classes)
        self.conv_cls = nn.Conv2d(inputs, per_cell * len(classes), 1)
        self.conv_box = nn.Conv2d(inputs, per_cell * 7, 1)
        self.conv_dir_cls = nn.Conv2d(inputs, per_cell * 2, 1)
        nn.init.constant_(self.conv_cls.bias, -math.log((1 - 0.01) / 0.01))  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.conv_box.weight, std=0.001)
        height, width = shape
        x = torch.linspace(bounds[0], bounds[3], width)
        y = torch.linspace(bounds[1], bounds[4], height)
        groups = []
        for kind in classes:
            turns = torch.tensor(kind.rotations)
            grid = torch.zeros(height, width, len(turns), 7)
            grid[..., 0], grid[..., 1] = x[None, :, None], y[:, None, None]
            grid[..., 2] = kind.bottom + kind.size[2] / 2
            grid[..., 3:6] = torch.tensor(kind.size)
            grid[..., 6] = turns
            groups.append(grid)
        self.register_buffer("anchors", torch.cat(groups, 2), persistent=False)  # (H, W, per cell, 7)

    def every(self) -> Tensor:
        """All anchors (N, 7), cell by cell."""
        anchors = self.anchors
        assert isinstance(anchors, Tensor)
        return anchors.flatten(0, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, N, K), codes (B, N, 7), directions (B, N, 2)."""
        batch = len(x)
        logits, codes, directions = (
            layer(x).permute(0, 2, 3, 1).reshape(batch, -1, size)
            for layer, size in (
                (self.conv_cls, len(self.classes)),
                (self.conv_box, 7),
                (self.conv_dir_cls, 2),
            )
        )
        return logits, codes, directions

    def targets(self, truth: Tensor) -> AnchorTargets:
        """Targets for boxes (B, M, 8): seven numbers and a class from 1; rows of class 0 are padding."""
        samples = [self.assign(rows[rows[:, 7] > 0]) for rows in truth]
        return AnchorTargets(*(torch.stack(part) for part in zip(*samples, strict=True)))

    def assign(self, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One sample: each class matches its own anchors."""
        anchors = self.anchors
        assert isinstance(anchors, Tensor)
        labels, codes, place = [], [], 0
        for number, kind in enumerate(self.classes, 1):
            own = anchors[:, :, place : place + len(kind.rotations)]
            place += len(kind.rotations)
            label, code = self.match(own.flatten(0, 2), truth[truth[:, 7] == number], number, kind)
            labels.append(label.view(own.shape[:3]))
            codes.append(code.view(own.shape))
        label, code = torch.cat(labels, 2).flatten(), torch.cat(codes, 2).flatten(0, 2)
        return label, code, (label > 0).float()

    @staticmethod
    def match(anchors: Tensor, truth: Tensor, number: int, kind: Anchors) -> tuple[Tensor, Tensor]:
        """Class and code of the anchors of one class; the best anchor of an object is always its own."""
        label = torch.full((len(anchors),), -1, dtype=torch.int32, device=anchors.device)
        code = torch.zeros_like(anchors)
        if not len(truth):
            return label.zero_(), code
        overlap = nearest_iou(anchors, truth[:, :7])
        best, which = overlap.max(1)
        label[best < kind.unmatched] = 0
        most = overlap.max(0).values
        forced = ((overlap == most) & (most > 0)).any(1)
        positive = forced | (best >= kind.matched)
        label[positive] = number
        code[positive] = encode(truth[which[positive], :7], anchors[positive])
        return label, code

    def loss(
        self,
        maps: tuple[Tensor, Tensor, Tensor],
        targets: AnchorTargets,
        weights: Sequence[float] = (1.0, 2.0, 0.2),
    ) -> dict[str, Tensor]:
        """Focal, smooth L1 and direction losses with their weights, and their sum; divided by the batch."""
        logits, codes, directions = maps
        batch = len(logits)
        positive = (targets.labels > 0).float()
        count = positive.sum(1, keepdim=True).clamp(min=1)
        counted = (targets.labels >= 0).float() / count
        wanted = functional.one_hot(targets.labels.clamp(min=0).long(), len(self.classes) + 1)[
            ..., 1:
        ].float()
        p = logits.sigmoid()
        alpha = wanted * ALPHA + (1 - wanted) * (1 - ALPHA)
        miss = wanted * (1 - p) + (1 - wanted) * p
        cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        heat = (alpha * miss.pow(GAMMA) * cross * counted[..., None]).sum() / batch
        ours, theirs = codes[..., 6], targets.codes[..., 6]
        # sin(a - b) of the angles as one number each, so that opposite headings cost nothing here
        first = torch.cat([codes[..., :6], (ours.sin() * theirs.cos())[..., None]], -1)
        second = torch.cat([targets.codes[..., :6], (ours.cos() * theirs.sin())[..., None]], -1)
        gap = (first - second).abs()
        smooth = torch.where(gap < BETA, 0.5 * gap * gap / BETA, gap - 0.5 * BETA)
        place = (smooth * (positive / count)[..., None]).sum() / batch
        heading = targets.codes[..., 6] + self.every()[:, 6]
        turn = limit(heading - DIRECTION_OFFSET, 0.0, 2 * math.pi)
        bin = (turn / math.pi).floor().long().clamp(0, 1)
        way = functional.cross_entropy(directions.flatten(0, 1), bin.flatten(), reduction="none")
        way = (way.view_as(positive) * (positive / count)).sum() / batch
        parts = {"heat": weights[0] * heat, "place": weights[1] * place, "direction": weights[2] * way}
        return {**parts, "loss": parts["heat"] + parts["place"] + parts["direction"]}

    def decode(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K) and boxes (B, N, 7)."""
        logits, codes, directions = maps
        boxes = decode(codes, self.every().expand(len(codes), -1, -1))
        turn = limit(boxes[..., 6] - DIRECTION_OFFSET, 0.0, math.pi)
        heading = turn + DIRECTION_OFFSET + math.pi * directions.argmax(-1).to(turn.dtype)
        return logits, torch.cat([boxes[..., :6], heading[..., None]], -1)
