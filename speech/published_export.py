"""Published networks as ONNX: waves in and waves out where their operators allow it, else parts of spectra.

    wave (1, N) -> y (1, S, N)                      Conv-TasNet, DPRNN, SepFormer, MossFormer2 separation
    x (1, F, T, 2) -> y (1, F, T, 2)                FRCRN: real and imaginary parts, clean ones out

The length is free where the exporter can follow it. The others, whose chunks or frames it counts for one
length only, take the one they were exported for; longer recordings go through them in windows.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.export import export_network
from speech.models.frcrn import BINS, FRCRN, HOP, WINDOW
from speech.models.mossformer2 import MossFormer2SE
from speech.models.tf_gridnet import TFGridNet
from speech.models.torch_layers import fused

SHORTEST_S, LONGEST_S = 0.25, 60.0
"""Of a graph whose length is free."""
REFUSED = {
    MossFormer2SE: "its features are computed by torchaudio's Kaldi filterbank, which has no graph",
    TFGridNet: "it transforms the wave inside, and graphs have no complex numbers",
}


class CleanParts(nn.Module):
    """FRCRN between its transforms."""

    def __init__(self, network: FRCRN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = x.unbind(-1)
        a, b = self.network.mask_parts(real, imaginary)
        return torch.stack([a * real - b * imaginary, a * imaginary + b * real], -1)


def export_published(model: Any, path: str | Path, seconds: float) -> tuple[float, dict[str, Any]]:
    """Write the graph; returns the largest difference from torch and what its metadata say.

    Raises:
        ConfigError: the network has no form that ONNX can hold; see also `core.export.export_network`.
    """
    network, rate = model.network, model.rate
    for kind, why in REFUSED.items():
        if isinstance(network, kind):
            raise ConfigError(f"{model.name} cannot be written as ONNX: {why}.")
    about = {"rate": rate, "latency_samples": "the whole wave"}
    if isinstance(network, FRCRN):
        frames = max(2, (int(seconds * rate) - WINDOW) // HOP + 1)
        shape = "square root of the periodic Hann window, for analysis and synthesis"
        about |= {"window": WINDOW, "hop": HOP, "window_shape": shape, "ends": "whole frames alone"}
        size = (1, BINS, frames, 2)
        worst = export_network(CleanParts(network), path, {"x": noise(size)}, ["y"], check={"x": noise(size)})
        return worst, about | {"length": f"{frames} frames, longer ones in windows"}
    least, most = int(SHORTEST_S * rate), int(LONGEST_S * rate)
    samples, fewer = int(seconds * rate), int(max(SHORTEST_S, 0.5 * seconds) * rate)
    graph, inputs = fused(network), {"wave": noise((1, samples))}
    try:
        free, bounds, check = {"wave": {1: "time"}}, {"time": (least, most)}, {"wave": noise((1, fewer))}
        worst = export_network(graph, path, inputs, ["y"], free=free, bounds=bounds, check=check)
        return worst, about | {"length": f"{least} to {most} samples"}
    except ConfigError:  # chunks of a length that is not known
        worst = export_network(graph, path, inputs, ["y"], check={"wave": noise((1, samples))})
        return worst, about | {"length": f"{samples} samples, longer ones in windows"}


def noise(size: tuple[int, ...]) -> Tensor:
    return 0.1 * torch.randn(size)
