"""The best-practice HTR network (Retsinas et al. 2022): CNN, column max-pool, BiLSTM, CTC shortcut.

Names are those of the published state dict: `features.features.*`, `top.rec.*`, `top.fnl.1.*`, `top.cnn.1.*`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, projected where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class Features(nn.Module):
    """(B, 1, H, W) -> (B, C, 1, W') by the maximum over rows, or (B, C * 16, 1, W') by flattening them."""

    def __init__(self, cnn_cfg: Sequence[Any], flattening: str) -> None:
        super().__init__()
        self.flattening = flattening
        self.features = nn.ModuleDict({"0": nn.Conv2d(1, 32, 7, (4, 2), 3)})
        channels, blocks, pools = 32, 0, 0
        for part in cnn_cfg:
            if part == "M":
                self.features[f"mxp{pools}"] = nn.MaxPool2d(2, 2)
                pools += 1
                continue
            repeats, outputs = part
            for _ in range(repeats):
                blocks += 1
                self.features[f"cnv{blocks}"] = BasicBlock(channels, outputs)
                channels = outputs
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.features.items():
            x = layer(x).relu() if name == "0" else layer(x)
        if self.flattening == "maxpool":
            return x.amax(2, keepdim=True)
        if x.shape[2] != 16:
            raise ValueError(f"flattening by concat needs 16 rows after the pools, got {x.shape[2]}")
        return x.flatten(1, 2)[:, :, None]  # channel c * 16 + row


class Top(nn.Module):
    """The heads: recurrent, convolutional, or both (the second for training)."""

    def __init__(
        self, inputs: int, head_type: str, rnn_type: str, rnn_layers: int, rnn_hidden_size: int, nclasses: int
    ) -> None:
        super().__init__()
        self.head_type = head_type
        if head_type in ("rnn", "both"):
            kind = {"lstm": nn.LSTM, "gru": nn.GRU}[rnn_type]
            between = 0.2 if rnn_layers > 1 else 0.0
            self.rec = kind(inputs, rnn_hidden_size, rnn_layers, bidirectional=True, dropout=between)
            share = 0.2 if head_type == "rnn" else 0.5
            self.fnl = nn.Sequential(nn.Dropout(share), nn.Linear(2 * rnn_hidden_size, nclasses))
        if head_type == "both":
            self.cnn = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(inputs, nclasses, (1, 3), 1, (0, 1)))
        if head_type == "cnn":
            self.cnn_top = nn.Conv2d(inputs, nclasses, (1, 3), 1, (0, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.head_type == "cnn":
            return self.cnn_top(F.dropout(x, 0.5, self.training))[:, :, 0].permute(2, 0, 1), None
        y = self.rec(x[:, :, 0].permute(2, 0, 1))[0]
        logits = self.fnl(y)
        if self.head_type == "rnn":
            return logits, None
        return logits, self.cnn(x)[:, :, 0].permute(2, 0, 1)


class HTRNet(nn.Module):
    """ink (B, 1, H, W) -> logits (T, B, V) and those of the shortcut head, or None."""

    def __init__(self, arch_cfg: dict[str, Any], nclasses: int) -> None:
        super().__init__()
        flattening = arch_cfg["flattening"]
        self.features = Features(arch_cfg["cnn_cfg"], flattening)
        width = self.features.channels * (16 if flattening == "concat" else 1)
        self.top = Top(
            width,
            arch_cfg["head_type"],
            arch_cfg["rnn_type"],
            arch_cfg["rnn_layers"],
            arch_cfg["rnn_hidden_size"],
            nclasses,
        )

    def forward(self, ink: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.top(self.features(ink))


def squeezed(ink: Tensor, size: tuple[int, int] = (128, 1024), border: int = 8) -> Tensor:
    """ink (H, W) as the published training prepares it: scaled down to fit, padded by edge medians."""
    target_h, target_w = size
    h = min(target_h - 2 * border, ink.shape[0])
    w = min(target_w - 2 * border, int(h / ink.shape[0] * ink.shape[1]))
    small = F.interpolate(ink[None, None], (h, w), mode="bilinear", align_corners=False)[0, 0]
    import numpy as np

    below, right = target_h - h - border, target_w - w - border
    padded = np.pad(small.numpy(), ((border, below), (border, right)), mode="median")
    return torch.from_numpy(padded)
