"""Whole detectors as they are published: LION with its heads, Voxel Mamba's backbone, under their own names.

Built from their tables (KITTI, Waymo, nuScenes, Argoverse 2, ONCE) in this package's parts, so that weights
in OpenPCDet's layout load with every key accounted for: `vfe.`, `backbone_3d.`, `backbone_2d.`
and `dense_head.`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from vision.pointcloud.models.anchor_head import AnchorHead, Anchors
from vision.pointcloud.models.center_head import CenterHead
from vision.pointcloud.models.lion import LIONBackbone
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.models.planes import BEVBackbone
from vision.pointcloud.voxels import DynamicVoxels, from_above


@dataclass(frozen=True)
class Published:
    """The table of one data set."""

    bounds: tuple[float, ...]
    """x0 y0 z0 x1 y1 z1"""
    voxel: tuple[float, float, float]
    dim: int
    classes: tuple[str, ...]
    head: str
    """anchor or center"""
    channels: int = 4
    sweeps: int = 1
    """Merged sweeps; with more than one the last channel is time."""
    residual: bool = True
    layers: tuple[int, ...] = (1, 2, 2)
    strides: tuple[int, ...] = (1, 2, 2)
    filters: tuple[int, ...] = (128, 128, 256)
    up_strides: tuple[float, ...] = (1, 2, 4)
    up_filters: tuple[int, ...] = (128, 128, 128)
    iou: bool = False
    velocity: bool = False
    anchors: tuple[Anchors, ...] = field(default=())


KITTI_ANCHORS = (
    Anchors((3.9, 1.6, 1.56), -1.78, 0.6, 0.45),
    Anchors((0.8, 0.6, 1.73), -0.6, 0.5, 0.35),
    Anchors((1.76, 0.6, 1.73), -0.6, 0.5, 0.35),
)
NUSCENES = (
    "car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle",
    "pedestrian", "traffic_cone",
)  # fmt: skip
TABLES = {
    "kitti": Published(
        (0, -40, -3, 70.4, 40, 1), (0.2, 0.2, 0.125), 64, ("Car", "Pedestrian", "Cyclist"), "anchor",
        residual=False, layers=(5, 5), strides=(1, 2), filters=(128, 256), up_strides=(1, 2),
        up_filters=(256, 256), anchors=KITTI_ANCHORS,
    ),
    "waymo": Published(
        (-75.52, -75.52, -2, 75.52, 75.52, 4), (0.32, 0.32, 0.1875), 64,
        ("Vehicle", "Pedestrian", "Cyclist"), "center", channels=5, iou=True,
    ),
    "nuscenes": Published(
        (-54, -54, -5, 54, 54, 3), (0.3, 0.3, 0.25), 128, NUSCENES, "center", channels=5, sweeps=10,
        up_strides=(0.5, 1, 2), velocity=True,
    ),
    "argoverse2": Published(
        (-200, -200, -4, 200, 200, 4), (0.4, 0.4, 0.25), 128,
        tuple(f"class_{k}" for k in range(26)), "center",
    ),
    "once": Published(
        (-75.2, -75.2, -5, 75.2, 75.2, 3), (0.4, 0.4, 0.25), 128,
        ("Car", "Bus", "Truck", "Pedestrian", "Cyclist"), "center",
        residual=False, layers=(5, 5), strides=(1, 2), filters=(128, 256), up_strides=(1, 2),
        up_filters=(256, 256),
    ),
}  # fmt: skip
OPERATORS = ("Mamba", "RWKV", "RetNet", "xLSTM", "TTT")


class PublishedLION(nn.Module):
    """Points to the maps of a head, for one table and operator; parameters are named as in checkpoints."""

    def __init__(self, table: Published, operator: str = "Mamba", dim: int | None = None) -> None:
        super().__init__()
        dim = table.dim if dim is None else dim
        self.table = table
        self.vfe = DynamicVoxels(table.channels, (dim, dim), table.voxel, table.bounds)
        self.backbone_3d = LIONBackbone(dim, lambda: build_operator(operator, dim))
        self.backbone_2d = BEVBackbone(
            2 * dim, table.layers, table.strides, table.filters, table.up_strides, table.up_filters,
            table.residual,
        )  # fmt: skip
        width = sum(table.up_filters)
        stride = round(1 / table.up_strides[0])
        if table.head == "anchor":
            size = (self.vfe.grid[1] // stride, self.vfe.grid[0] // stride)
            self.dense_head: nn.Module = AnchorHead(width, table.anchors, size, table.bounds)
        else:
            branches = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
            branches |= {"vel": 2} if table.velocity else {}
            branches |= {"iou": 1} if table.iou else {}
            self.dense_head = CenterHead(
                width, len(table.classes), table.bounds, table.voxel, stride=stride, branches=branches
            )

    def forward(self, points: Tensor, sample: Tensor, batch: int) -> object:
        """Points (N, channels), the sample of each (N,) -> what the head says."""
        voxels, _ = self.backbone_3d(self.vfe(points, sample, batch))
        return self.dense_head(self.backbone_2d(from_above(voxels)))


def build_published(name: str, operator: str = "Mamba", dim: int | None = None) -> PublishedLION:
    """The detector of a table.

    Raises:
        ConfigError: no such table.
    """
    if name not in TABLES:
        raise ConfigError(f"no published detector {name!r}; there are {', '.join(TABLES)}.")
    return PublishedLION(TABLES[name], operator, dim)


PARTS = ("vfe", "backbone_3d", "map_to_bev_module", "backbone_2d", "dense_head", "roi_head", "point_head")


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without what wraps them: `module.`, `model.`, `model_state.`, counters."""
    out = {}
    for name, value in tensors.items():
        for prefix in ("module.", "model.", "model_state."):
            name = name.removeprefix(prefix)
        if name != "global_step":
            out[name] = value
    return out


@dataclass(frozen=True)
class Recognised:
    """What foreign weights are."""

    what: str
    parts: dict[str, int]
    """Tensors of each part."""
    parameters: int
    operator: str | None = None
    dim: int | None = None
    table: str | None = None
    missing: tuple[str, ...] = ()
    """Names of ours that the file lacks, against the nearest table."""
    unknown: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        parts = ", ".join(f"{name} {count}" for name, count in self.parts.items())
        lines = [f"{self.what}: {self.parameters:,} numbers; tensors: {parts}"]
        if self.table is not None:
            lines.append(f"  nearest table {self.table}, operator {self.operator}, width {self.dim}")
            for words, names in (("missing", self.missing), ("unknown", self.unknown), ("unfit", self.unfit)):
                if names:
                    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                    lines.append(f"  {len(names)} {words}: {', '.join(names[:6])}{more}")
            if not (self.missing or self.unknown or self.unfit):
                lines.append("  every key is accounted for")
        return lines


def recognise(tensors: Mapping[str, Tensor]) -> Recognised:
    """Say what a checkpoint holds, by its names and shapes; nothing is run."""
    tensors = plain(tensors)
    parts: dict[str, int] = {}
    for name in tensors:
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + 1
    total = sum(value.numel() for value in tensors.values())
    body = [name for name in tensors if name.startswith("backbone_3d.")]
    if any("block_list" in name and "mamba_encoder_list" in name for name in tensors):
        return Recognised("Voxel Mamba", parts, total)
    if not any(".linear_1." in f".{name}" for name in body):
        known = [name for name in parts if name in PARTS]
        what = f"another detector of OpenPCDet ({', '.join(known)})" if known else "no detector that is known"
        return Recognised(what, parts, total)
    operator = next((name for name in OPERATORS if fits_operator(name, tensors)), None)
    out = tensors.get("backbone_3d.dow1.norm.weight")
    dim = None if out is None else len(out)
    if operator is None or dim is None:
        return Recognised("LION", parts, total, operator, dim)
    best: tuple[tuple[int, int, int], Recognised] | None = None
    for table in TABLES:
        with torch.device("meta"):
            wanted = build_published(table, operator, dim).state_dict()
        missing = tuple(name for name in wanted if name not in tensors)
        unknown = tuple(name for name in tensors if name not in wanted)
        both = wanted.keys() & tensors.keys()
        unfit = tuple(sorted(name for name in both if wanted[name].shape != tensors[name].shape))
        found = Recognised("LION", parts, total, operator, dim, table, missing, unknown, unfit)
        cost = (len(missing) + len(unknown), len(unfit), 0)
        if best is None or cost < best[0]:
            best = cost, found
    assert best is not None
    return best[1]


def fits_operator(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the first layer has exactly the parameters of an operator."""
    first = "backbone_3d.linear_1.encoder.0.blocks.0."
    given = {key.removeprefix(first) for key in tensors if key.startswith(first)}
    width = tensors.get("backbone_3d.dow1.norm.weight")
    if width is None or not given:
        return False
    try:
        with torch.device("meta"):
            wanted = set(build_operator(name, len(width)).state_dict())
    except ConfigError:
        return False
    return wanted == given
