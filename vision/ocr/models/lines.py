"""Our line network: residual convolutions, the maximum over the height, two bidirectional units, CTC.

    ink -> conv5 /2, pool /2 -> residual blocks with pools of the height -> max over rows -> units -> logits

A second, shallow head on the same features pulls the convolutions out of the all-blank plateau (Retsinas et
al. 2024, arXiv 2404.11339, section 3.4: "CTC shortcut"); it is used in training only.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.ocr.config import ModelConfig
from vision.ocr.models.parts import BothWays, Residual, beyond, conv_out, hide_spans, learned_or_recorded
from vision.ocr.precision import stage

STRIDE = 4
"""Pixels a frame."""


class LineNetwork(nn.Module):
    """ink (B, 1, H, W) in 0..1, widths (B,) -> logits (T, B, V), the shortcut's logits or None."""

    stride = STRIDE
    FOLDS = (("stem", "stem_norm"),)

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.exact: tuple[str, ...] = ()  # stages that stay in float32 under autocast, see `precision`
        first, *channels = config.channels
        self.stem = nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        self.blocks = nn.ModuleList(
            Residual(before, after) for before, after in zip(config.channels, channels, strict=False)
        )
        self.features_norm = nn.BatchNorm1d(channels[-1])
        self.sequence = BothWays(
            config.unit, channels[-1], config.hidden, config.layers, config.between_dropout
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.sequence.output_size, outputs)
        self.shortcut = nn.Conv1d(channels[-1], outputs, 3, padding=1) if config.shortcut else None

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return conv_out(conv_out(widths, 5, 2, 2), 2, 2, 0)

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        on_host = None if widths is None else self.frames(widths.cpu())
        widths = None if widths is None else widths.to(ink.device)
        half = None if widths is None else conv_out(widths, 5, 2, 2)
        lengths = None if widths is None else self.frames(widths)
        with stage(self.exact, "convolutions", ink.device.type):
            features = self.features(ink.contiguous(memory_format=torch.channels_last), half, lengths)
        if self.training:
            features = hide_spans(features, lengths, self.config.hidden_share, 8, generator)
        with stage(self.exact, "sequence", ink.device.type):
            inputs = features.float() if "sequence" in self.exact else features
            y = self.sequence(inputs, lengths, on_host)
        logits = self.head(self.dropout(y)).transpose(0, 1)
        if self.shortcut is None or not self.training:
            return logits, None
        side = self.shortcut(F.dropout(features, self.config.dropout, self.training).transpose(1, 2))
        return logits, side.permute(2, 0, 1)  # (T, B, V)

    def features(self, x: Tensor, half: Tensor | None, lengths: Tensor | None) -> Tensor:
        """Ink (B, 1, H, W) -> (B, T, C) of the columns, the maximum over the height."""
        x = beyond(self.stem_norm(self.stem(x)).relu(), half)
        x = beyond(pooled(x, 2), lengths)  # (B, C, H/4, W/4)
        for number, block in enumerate(self.blocks):
            if number and number <= self.config.pools:
                x = pooled(x, 1)
            x = block(x, lengths)
        features = self.features_norm(x.amax(2))[:, :, None]  # (B, C, 1, T)
        return beyond(features, lengths)[:, :, 0].transpose(1, 2)  # (B, T, C)


def pooled(x: Tensor, columns: int) -> Tensor:
    """The maximum over 2 rows and so many columns (1 or 2).

    Where nothing is learned by comparing halves: torch's pool takes a fifth of the network's time in channels
    last. In training torch's own decides which of two equal ones gets the gradient.
    """
    if learned_or_recorded():
        return F.max_pool2d(x, (2, columns))
    h, w = x.shape[2] // 2 * 2, x.shape[3] // columns * columns
    x = torch.maximum(x[:, :, 0:h:2], x[:, :, 1:h:2])
    return x if columns == 1 else torch.maximum(x[..., 0:w:2], x[..., 1:w:2])
