"""`recurra ocr export`: a network as ONNX with a parity check, or a VGSL one as a file of kraken."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from vision.ocr.line import GRAIN
from vision.ocr.reader import Reader, load_reader


class Graph(nn.Module):
    """ink (B, 1, H, W) in 0..1 -> log-probabilities (B, T, V): what a decoder elsewhere needs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ink: Tensor) -> Tensor:
        logits: Any = self.network(ink)[0]
        return logits.transpose(0, 1).log_softmax(-1)


def export_file(out: Path, weights: str | None = None, task: str = "lines") -> list[str]:
    """Write the network of some weights; gives what to say.

    Raises:
        ConfigError: another suffix, or a network that the format cannot hold.
        MissingExtraError: the packages of the extra `export` are missing.
        WorkError: the graph answers otherwise than torch.
    """
    if out.suffix not in (".onnx", ".safetensors"):
        raise ConfigError(f"{out}: networks are written as .onnx, VGSL ones as .safetensors of kraken, too.")
    reader = load_reader(weights, task, lm=False)
    if out.suffix == ".safetensors":
        return export_kraken(out, reader)
    return export_onnx(out, reader)


def export_onnx(out: Path, reader: Reader) -> list[str]:
    """ONNX with a free batch and width, where the network takes any width."""
    from core.export import export_network
    from vision.ocr.models.parts import in_torch_form

    if hasattr(reader.network, "spell"):
        raise ConfigError("a network that spells with attention has no graph of frames.")
    network = in_torch_form(reader.network)
    height, width = reader.line.height, reader.line.width
    free: dict[int, str] = {} if width else {3: "width"}
    columns = width or 20 * GRAIN
    example = torch.rand(1, 1, height, columns)
    other = torch.rand(1, 1, height, columns if width else 33 * GRAIN)
    worst = export_network(
        Graph(network),
        out,
        {"ink": example},
        ["log_probabilities"],
        free={"ink": free},
        bounds={"width": (4 * GRAIN, 8192)},
        check={"ink": other},
    )
    said = ", ".join(f"{symbol!r}" for symbol in reader.codec.symbols[:6])
    return [
        f"{out}: ink (1, 1, {height}, width) in 0..1, ink high, to log-probabilities (1, frames, "
        f"{reader.codec.size}); differs by {worst:.1g} at another width; label 0 blank, then {said}, ..."
    ]


def export_kraken(out: Path, reader: Reader) -> list[str]:
    """A VGSL network trained here as kraken keeps it.

    Raises:
        ConfigError: the network is not written in VGSL.
    """
    from vision.ocr.layouts.kraken import KrakenCodec, KrakenModel
    from vision.ocr.layouts.kraken_write import write_kraken
    from vision.ocr.models.vgsl_lines import VGSLLines

    network = reader.network
    if not isinstance(network, VGSLLines):
        raise ConfigError("kraken takes VGSL networks alone; train one with --set model.name=vgsl.")
    codec = KrakenCodec({symbol: (label,) for symbol, label in reader.codec.labels.items()})
    about = {
        "vgsl": network.network.spec,
        "seg_type": "baselines",
        "one_channel_mode": "L",
        "legacy_polygons": False,
        "model_type": ["recognition"],
    }
    write_kraken(out, [KrakenModel("recurra", ("recognition",), network.network, codec, about)])
    return [f"{out}: {network.network.spec}, {len(codec.codes)} characters"]
