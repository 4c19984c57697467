"""The TransFusion head (Bai et al. 2022, arXiv 2203.11496), LION's on nuScenes: queries from a heat map.

The best local maxima become queries; one decoder layer lets them look at each other and at the features
around them; small branches say a box for each. Truth is matched to queries one to one. Written from its
description.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from vision.pointcloud.iou import iou_3d
from vision.pointcloud.models.center_head import CLAMP, HEAT_BIAS, draw_gaussian, gaussian_radius, paired_iou

BRANCHES = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}
CODES = ("center", "height", "dim", "rot", "vel")
CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
COST_CLASS, COST_PLACE, COST_OVERLAP = 0.15, 0.25, 0.25
LOSS_CLASS, LOSS_BOX, LOSS_HEAT, LOSS_OVERLAP = 1.0, 0.25, 1.0, 0.5
ALPHA, GAMMA = 0.25, 2.0


class Place(nn.Module):
    """Places in cells (B, N, 2) as features (B, N, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Conv1d(2, width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 1)
        )

    def forward(self, place: Tensor) -> Tensor:
        return self.position_embedding_head(place.mT).mT


class LocalDecoder(nn.Module):
    """Queries (B, Q, C) look at each other, then at the map within a square around each."""

    def __init__(self, width: int, heads: int, inner: int, reach: int) -> None:
        """reach: cells to each side; 20 is a neighbourhood of 41 x 41."""
        super().__init__()
        self.heads, self.reach = heads, reach
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_posembed, self.cross_posembed = Place(width), Place(width)

    def forward(self, queries: Tensor, cells: Tensor, features: Tensor) -> Tensor:
        """cells (B, Q) y W + x of the queries; features (B, C, H, W)."""
        height, width = features.shape[2:]
        y, x = cells // width, cells % width
        own = self.self_posembed(torch.stack([x, y], -1).to(queries.dtype) + 0.5)
        seen = queries + own
        queries = self.norm1(queries + self.self_attn(seen, seen, queries, need_weights=False)[0])
        grid = torch.stack(
            torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1
        ).flatten(0, 1)
        places = self.cross_posembed(grid[None].to(features.device, features.dtype) + 0.5)  # (1, H W, C)
        flat = features.flatten(2).mT  # (B, H W, C)
        k, v = self.key(flat + places), self.value(flat)
        q = self.query(queries + own)
        steps = torch.arange(-self.reach, self.reach + 1, device=cells.device)
        dy, dx = torch.meshgrid(steps, steps, indexing="ij")
        yy, xx = y[..., None] + dy.flatten(), x[..., None] + dx.flatten()  # (B, Q, n)
        inside = (yy >= 0) & (yy < height) & (xx >= 0) & (xx < width)
        at = yy.clamp(0, height - 1) * width + xx.clamp(0, width - 1)
        rows = torch.arange(len(q), device=q.device)[:, None, None]
        # (B, Q, n, h, D)
        near_k, near_v = (part[rows, at].unflatten(-1, (self.heads, -1)) for part in (k, v))
        q = q.unflatten(-1, (self.heads, -1))
        score = torch.einsum("bqhd,bqnhd->bqhn", q, near_k) / math.sqrt(q.shape[-1])
        weight = score.masked_fill(~inside[:, :, None], -math.inf).softmax(-1)
        mixed = torch.einsum("bqhn,bqnhd->bqhd", weight, near_v).flatten(2)
        queries = self.norm2(queries + self.out(mixed))
        return self.norm3(queries + self.linear2(functional.relu(self.linear1(queries))))


class Branches(nn.Module):
    """What every query says: (B, Q, C) -> numbers by name (B, Q, n)."""

    def __init__(self, width: int, inner: int, outputs: dict[str, int]) -> None:
        super().__init__()
        for name, count in outputs.items():
            self.add_module(
                name,
                nn.Sequential(
                    nn.Sequential(nn.Conv1d(width, inner, 1, bias=False), nn.BatchNorm1d(inner), nn.ReLU()),
                    nn.Conv1d(inner, count, 1),
                ),
            )

    def forward(self, queries: Tensor) -> dict[str, Tensor]:
        return {name: branch(queries.mT).mT for name, branch in self.named_children()}


@dataclass(frozen=True)
class Said:
    """What the head says of a batch."""

    heat: Tensor
    """(B, K, H, W) logits of the map."""
    cells: Tensor
    """(B, Q) where the queries stand, y W + x."""
    kinds: Tensor
    """(B, Q) the class that made each a query."""
    first: Tensor
    """(B, Q) its score on the map."""
    values: dict[str, Tensor]
    """(B, Q, n) by branch; `heatmap` is the class."""


class TransFusionHead(nn.Module):
    """(B, C, H, W) -> `Said`; `decode` makes boxes of it."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        bounds: Sequence[float],
        voxel: Sequence[float],
        *,
        stride: int = 2,
        width: int = 128,
        queries: int = 200,
        neighbourhood: int = 41,
        heads: int = 8,
        inner: int = 256,
        small: Sequence[int] = (8, 9),
    ) -> None:
        """small: classes whose maxima are single cells (pedestrian and cone)."""
        super().__init__()
        self.classes, self.bounds, self.voxel, self.stride = classes, tuple(bounds), tuple(voxel), stride
        self.queries, self.small = queries, tuple(small)
        self.shared_conv = nn.Conv2d(inputs, width, 3, padding=1)
        self.heatmap_head = nn.Sequential(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, classes, 3, padding=1),
        )
        nn.init.constant_(self.heatmap_head[1].bias, HEAT_BIAS)  # pyright: ignore[reportArgumentType]
        self.class_encoding = nn.Conv1d(classes, width, 1)
        self.decoder = LocalDecoder(width, heads, inner, neighbourhood // 2)
        self.prediction_head = Branches(width, 64, {**BRANCHES, "heatmap": classes})

    def forward(self, x: Tensor) -> Said:
        features = self.shared_conv(x)
        logits = self.heatmap_head(features)
        heat = logits.detach().sigmoid()
        peak = functional.max_pool2d(heat, 3, 1, 1) == heat
        for kind in self.small:
            if kind < self.classes:
                peak[:, kind] = True
        size = heat.shape[2] * heat.shape[3]
        first, best = (heat * peak).flatten(1).topk(min(self.queries, self.classes * size))
        kinds, cells = best // size, best % size
        flat = features.flatten(2).mT
        queries = flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))
        one_hot = functional.one_hot(kinds, self.classes).to(queries.dtype)
        queries = queries + self.class_encoding(one_hot.mT).mT
        values = self.prediction_head(self.decoder(queries, cells, features))
        where = torch.stack([cells % heat.shape[3], cells // heat.shape[3]], -1).to(queries.dtype) + 0.5
        values["center"] = values["center"] + where
        return Said(logits, cells, kinds, first, values)

    def boxes(self, codes: Tensor) -> Tensor:
        """Boxes (.., 9) of codes (.., 10): place in cells, z, log sizes, sine and cosine, velocity."""
        x = codes[..., 0] * self.stride * self.voxel[0] + self.bounds[0]
        y = codes[..., 1] * self.stride * self.voxel[1] + self.bounds[1]
        heading = torch.atan2(codes[..., 6], codes[..., 7])
        place = torch.stack([x, y, codes[..., 2]], -1)
        return torch.cat([place, codes[..., 3:6].exp(), heading[..., None], codes[..., 8:]], -1)

    def codes(self, truth: Tensor) -> Tensor:
        """Codes (M, 10) of boxes (M, 9+)."""
        x = (truth[:, 0] - self.bounds[0]) / self.voxel[0] / self.stride
        y = (truth[:, 1] - self.bounds[1]) / self.voxel[1] / self.stride
        turn = [truth[:, 6].sin(), truth[:, 6].cos()]
        return torch.cat(
            [
                torch.stack([x, y, truth[:, 2]], 1),
                truth[:, 3:6].log(),
                torch.stack(turn, 1),
                truth[:, 7:9],
            ],
            1,
        )

    def matched(self, said: Said, sample: int, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and truths (M, 10: nine numbers and a class from 0) that belong together, as indices."""
        codes = torch.cat([said.values[name][sample] for name in CODES], 1).detach()
        boxes = self.boxes(codes)
        kinds = truth[:, -1].long()
        p = said.values["heatmap"][sample].detach().sigmoid()[:, kinds].clamp(CLAMP, 1 - CLAMP)  # (Q, M)
        right = ALPHA * (1 - p) ** GAMMA * -p.log()
        wrong = (1 - ALPHA) * p**GAMMA * -(1 - p).log()
        extent = boxes.new_tensor([self.bounds[3] - self.bounds[0], self.bounds[4] - self.bounds[1]])
        apart = (boxes[:, None, :2] - truth[None, :, :2]).abs() / extent
        overlap = iou_3d(boxes[:, :7].double().cpu().numpy(), truth[:, :7].double().cpu().numpy())
        cost = COST_CLASS * (right - wrong) + COST_PLACE * apart.sum(-1)
        total = cost.double().cpu().numpy() - COST_OVERLAP * overlap
        rows, columns = linear_sum_assignment(np.nan_to_num(total, nan=1e6, posinf=1e6, neginf=-1e6))
        device = truth.device
        return torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)

    def loss(self, said: Said, truth: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses for boxes (M, 10) of each sample: nine numbers, velocity NaN if unknown, class from 0."""
        logits = said.values["heatmap"]
        wanted = torch.zeros_like(logits)
        box, overlap, count = logits.sum() * 0, logits.sum() * 0, 0
        weight = logits.new_tensor(CODE_WEIGHTS)
        for sample, rows in enumerate(truth):
            if not len(rows):
                continue
            queries, truths = self.matched(said, sample, rows)
            wanted[sample, queries, rows[truths, -1].long()] = 1
            ours = torch.cat([said.values[name][sample, queries] for name in CODES], 1)
            theirs = self.codes(rows[truths])
            known = theirs.isfinite()
            gap = torch.where(known, ours - torch.where(known, theirs, 0.0), 0.0).abs()
            box = box + (gap * weight).sum()
            with torch.no_grad():
                right = paired_iou(self.boxes(ours)[None, :, :7], rows[truths][None, :, :7])[0]
            overlap = overlap + (said.values["iou"][sample, queries, 0] - (2 * right - 1)).abs().sum()
            count += len(queries)
        p = logits.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        focal = torch.where(wanted > 0, ALPHA * (1 - p) ** GAMMA, (1 - ALPHA) * p**GAMMA) * cross
        total = max(1, count)
        parts = {
            "class": LOSS_CLASS * focal.sum() / total,
            "box": LOSS_BOX * box / total,
            "iou": LOSS_OVERLAP * overlap / total,
            "heat": LOSS_HEAT * self.heat_loss(said.heat, truth),
        }
        return {**parts, "loss": torch.stack(list(parts.values())).sum()}

    def heat_loss(self, logits: Tensor, truth: Sequence[Tensor]) -> Tensor:
        """CornerNet's focal loss of the map."""
        heat = np.zeros(tuple(logits.shape), np.float32)
        height, width = logits.shape[2:]
        for sample, rows in enumerate(truth):
            for row in rows.detach().cpu().numpy():
                x = (row[0] - self.bounds[0]) / self.voxel[0] / self.stride
                y = (row[1] - self.bounds[1]) / self.voxel[1] / self.stride
                if not (0 <= x < width and 0 <= y < height):
                    continue
                long, wide = row[3] / self.voxel[0] / self.stride, row[4] / self.voxel[1] / self.stride
                radius = max(2, int(gaussian_radius(float(long), float(wide))))
                draw_gaussian(heat[sample, int(row[-1])], int(x), int(y), radius)
        wanted = torch.from_numpy(heat).to(logits.device)
        p = logits.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
        centre = (wanted == 1).float()
        found = p.log() * (1 - p).square() * centre
        clear = (1 - p).log() * p.square() * (1 - wanted).pow(4) * (1 - centre)
        return -(found.sum() + clear.sum()) / centre.sum().clamp(min=1)

    def decode(self, said: Said, trust: float = 0.5) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes (Q, 9), scores and classes of each sample; score = map x class^(1 - trust) overlap^trust."""
        codes = torch.cat([said.values[name] for name in CODES], 2)
        own = said.values["heatmap"].sigmoid().gather(2, said.kinds[..., None])[..., 0]
        overlap = ((said.values["iou"][..., 0] + 1) / 2).clamp(0, 1)
        scores = said.first * own ** (1 - trust) * overlap**trust
        return list(zip(self.boxes(codes).unbind(0), scores.unbind(0), said.kinds.unbind(0), strict=True))
