"""Digit strings: residual convolutions, two bidirectional units, CTC (after Zhan et al. 2017).

The paper (arXiv 1710.03112) gives no table of its layers; these are ours. The height is
flattened into the features, since the place of a stroke in the line tells digits apart.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.ocr.config import ModelConfig
from vision.ocr.models.parts import BothWays, Residual, beyond, conv_out, hide_spans
from vision.ocr.precision import stage


class DigitNetwork(nn.Module):
    """ink (B, 1, H, W) in 0..1, widths (B,) -> logits (T, B, V), None. One frame every four columns."""

    stride = 4
    FOLDS = (("stem", "stem_norm"),)

    def __init__(self, config: ModelConfig, outputs: int, height: int) -> None:
        super().__init__()
        self.config = config
        self.exact: tuple[str, ...] = ()  # stages that stay in float32 under autocast, see `precision`
        stem, a, b, c = config.channels
        self.stem = nn.Conv2d(1, stem, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        self.blocks = nn.ModuleList(
            [
                Residual(stem, a),
                Residual(a, a),
                Residual(a, b),
                Residual(b, b),
                Residual(b, c),
                Residual(c, c),
            ]
        )
        rows = height // 16
        self.sequence = BothWays(config.unit, c * rows, config.hidden, config.layers, config.between_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.sequence.output_size, outputs)

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of strings of these widths."""
        return conv_out(conv_out(widths, 2, 2, 0), 2, 2, 0)

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        on_host = None if widths is None else self.frames(widths.cpu())
        widths = None if widths is None else widths.to(ink.device)
        half = None if widths is None else conv_out(widths, 2, 2, 0)
        lengths = None if widths is None else self.frames(widths)
        with stage(self.exact, "convolutions", ink.device.type):
            features = self.features(ink.contiguous(memory_format=torch.channels_last), widths, half, lengths)
        if self.training:
            features = hide_spans(features, lengths, self.config.hidden_share, 4, generator)
        with stage(self.exact, "sequence", ink.device.type):
            inputs = features.float() if "sequence" in self.exact else features
            y = self.sequence(inputs, lengths, on_host)
        return self.head(self.dropout(y)).transpose(0, 1), None

    def features(
        self, x: Tensor, widths: Tensor | None, half: Tensor | None, lengths: Tensor | None
    ) -> Tensor:
        """Ink (B, 1, H, W) -> (B, T, C H/16), the rows behind each other."""
        x = beyond(self.stem_norm(self.stem(x)).relu(), widths)
        x = beyond(F.max_pool2d(x, 2), half)
        for number, block in enumerate(self.blocks):
            if number == 2:
                x = beyond(F.max_pool2d(x, 2), lengths)
            elif number == 4:
                x = F.max_pool2d(x, (2, 1))
            x = block(x, half if number < 2 else lengths)
        x = F.max_pool2d(x, (2, 1))  # (B, C, H/16, T)
        return x.flatten(1, 2).transpose(1, 2)  # (B, T, C H/16)
