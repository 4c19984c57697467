"""The dense part of a detector as ONNX, checked against torch: from maps to heat and numbers.

What is sparse (voxels, windows, scans) stays here: its sizes change with every scan.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import export_network
from vision.pointcloud.crops import CELLS, OUT_CELLS
from vision.pointcloud.features import CHANNELS
from vision.pointcloud.models.bev import BevNetwork
from vision.pointcloud.models.detector import LIONDetector
from vision.pointcloud.predict import Detector


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
