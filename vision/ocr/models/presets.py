"""Every network that `--set model.name=` knows, built for an alphabet and a height."""

from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from vision.ocr.config import TrainConfig
from vision.ocr.models.htr import HTRNet
from vision.ocr.models.scene import Model

SPELLERS = ("seq2seq", "r2am", "master", "nrtr")


def build(config: TrainConfig, outputs: int) -> nn.Module:
    """The network of a configuration with as many outputs as the codec asks for.

    Raises:
        ConfigError: there is no such network, or it does not take such lines.
    """
    model, height = config.model, config.line.height
    match model.name:
        case "lines":
            from vision.ocr.models.lines import LineNetwork

            return LineNetwork(model, outputs)
        case "digits":
            from vision.ocr.models.digits import DigitNetwork

            return DigitNetwork(model, outputs, height)
        case "pylaia":
            from vision.ocr.models.pylaia import PyLaiaLines

            return PyLaiaLines(outputs, height)
        case "crnn":
            return CRNN(outputs)
        case "htr":
            return HTR(model.hidden, model.layers, outputs)
        case "vgsl":
            from vision.ocr.models.vgsl_lines import VGSLLines

            return VGSLLines(model.spec, outputs, height, model.hidden)
        case "easter" | "easter2":
            from vision.ocr.models.easter import Easter

            return Easter(outputs, height, gated=model.name == "easter2")
    if model.name in SPELLERS:
        from vision.ocr.models.speller import Speller

        return Speller(model, outputs, height)
    raise ConfigError(f"no network {model.name!r}.")


class CRNN(nn.Module):
    """VGG, two bidirectional LSTMs and CTC (Shi et al. 2015), without masks: batches hold one width."""

    stride = 4
    equal_widths = True

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.network = Model(num_class=outputs, FeatureExtraction="VGG")

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return (widths // 2 // 2 - 1).clamp(min=1)

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        return self.network(1 - 2 * ink).transpose(0, 1), None


class HTR(nn.Module):
    """The best-practice network with both heads on lines of any width, without masks."""

    stride = 8
    equal_widths = True

    def __init__(self, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        arch = {
            "cnn_cfg": [[2, 64], "M", [3, 128], "M", [2, 256]],
            "flattening": "maxpool",
            "head_type": "both",
            "rnn_type": "lstm",
            "rnn_layers": layers,
            "rnn_hidden_size": hidden,
        }
        self.network = HTRNet(arch, outputs)

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return (((widths - 1) // 2 + 1) // 2 // 2).clamp(min=1)

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        logits, side = self.network(ink)
        return logits, side if self.training else None
