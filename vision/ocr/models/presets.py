"""Every network that `--set model.name=` knows, built for an alphabet and a height."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from vision.ocr.config import TrainConfig
from vision.ocr.models.attention import STOP
from vision.ocr.models.htr import HTRNet
from vision.ocr.models.scene import Model
from vision.ocr.models.spelling import Spelled, spelled

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
    if model.name == "tps":
        if config.line.method != "fixed" or config.line.width is None:
            raise ConfigError("model.name=tps takes lines of one size: line.method=fixed, line.width=100.")
        return SceneSpeller(outputs, height, config.line.width)
    if model.name in SPELLERS:
        from vision.ocr.models.speller import Speller

        return Speller(model, outputs, height)
    raise ConfigError(f"no network {model.name!r}.")


class SceneSpeller(nn.Module):
    """TPS, ResNet, two bidirectional LSTMs and attention (AttentionHTR), on lines of one size.

    Its loss is cross entropy up to [s]; published ones were trained with Adadelta (`loop.optimizer`).
    """

    stride = 4

    def __init__(self, outputs: int, height: int, width: int) -> None:
        super().__init__()
        self.network = Model(
            num_class=outputs + 1,
            Prediction="Attn",
            batch_max_length=width // 4,
            imgH=height,
            imgW=width,
            fiducials=20,
        )

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of every line."""
        return widths // 4 + 1

    def loss(
        self, ink: Tensor, widths: Tensor, targets: Tensor, target_lengths: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """Cross entropy per character of targets (B, L); [GO] is 0 and [s] 1 in the network."""
        steps = self.network.longest + 1
        told = torch.zeros(len(ink), steps + 1, dtype=torch.long, device=ink.device)
        for row, (target, length) in enumerate(zip(targets, target_lengths, strict=True)):
            count = min(length, steps - 1)
            told[row, 1 : 1 + count] = target[:count] + 1
            told[row, 1 + count] = STOP
        logits = self.network(1 - 2 * ink, told[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), told[:, 1:].flatten(), ignore_index=0)
        return {"loss": loss, "impossible": loss.new_zeros(())}

    @torch.no_grad()
    def spell(self, ink: Tensor, widths: Tensor | None = None) -> list[Spelled]:
        """The text of each line."""
        p = self.network(1 - 2 * ink).softmax(-1).cpu().numpy()
        return [spelled(row, stop=STOP, first=2, frames=self.network.longest) for row in p]


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
