"""A detector as ONNX, checked against torch: its dense part, from maps to heat and numbers, or all of it.

The dense part has the sizes of the grid. The whole detector has lists with room for so many points and voxels
(`whole.py`), and needs an operator whose scan becomes a graph.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import export_network
from vision.pointcloud.crops import CELLS, FIRST_TEST, OUT_CELLS, crop_points
from vision.pointcloud.features import CHANNELS, cell_polar
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.models.bev import BevNetwork
from vision.pointcloud.models.detector import LIONDetector
from vision.pointcloud.predict import Detector, levelled
from vision.pointcloud.synth.scan import simulate
from vision.pointcloud.whole import POINTS, ROOM, Whole, filled_up

EXAMPLE = FIRST_TEST + 12
"""Seed of the scan that a graph is checked with."""


class BevPart(nn.Module):
    """image (B, 15, 256, 256) -> heat logits, numbers."""

    def __init__(self, network: BevNetwork) -> None:
        super().__init__()
        self.stem, self.pyramid, self.head = network.stem, network.pyramid, network.head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.pyramid(self.stem(image)))


class LIONPart(nn.Module):
    """volume (B, C * Z, 128, 128) of the last voxels and image (B, 15, 256, 256) -> heat logits, numbers."""

    def __init__(self, network: LIONDetector) -> None:
        super().__init__()
        self.flat, self.stem, self.join = network.flat, network.stem, network.join
        self.pyramid, self.head = network.pyramid, network.head

    def forward(self, volume: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([self.flat(volume), self.stem(image)], 1)
        return self.head(self.pyramid(self.join(both)))


def export_onnx(detector: Detector, path: str | Path) -> float:
    """Write the dense part; gives the largest relative difference from torch.

    Raises:
        WorkError: the graph answers otherwise than torch.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, CHANNELS, CELLS, CELLS, generator=generator)
    network = detector.network
    if isinstance(network, BevNetwork):
        part: nn.Module = BevPart(network)
        inputs = {"image": image}
    else:
        assert isinstance(network, LIONDetector)
        part = LIONPart(network)
        first = network.flat[0]
        assert isinstance(first, nn.Conv2d)
        volume = torch.randn(1, first.in_channels, OUT_CELLS, OUT_CELLS, generator=generator)
        inputs = {"volume": volume, "image": image}
    return export_network(part, path, inputs, ("heat", "numbers"))


def export_whole(detector: Detector, path: str | Path, points: int = POINTS, room: int = ROOM) -> float:
    """Write the detector of a crop, from points (P, 3) to heat and numbers; errors as in `export_onnx`.

    Args:
        points: P, the points that a crop may have; fewer are filled up with `whole.FAR_M`.
        room: voxels that a crop may have.

    Raises:
        ConfigError: an operator whose scan does not become a graph.
    """
    network = Whole(detector.network, room)
    crops = [
        filled_up(torch.from_numpy(crop_points(levelled(scan, estimate_ground(scan)), turn)[:points]), points)
        for scan, turn in ((simulate(EXAMPLE, "vlp16").points[:, :3], turn) for turn in (0, 1))
    ]
    cell_polar(crops[0].device)  # now: while a graph is written it would keep a tensor of the writer
    return export_network(
        network, path, {"points": crops[0]}, ("heat", "numbers"), check={"points": crops[1]}
    )
