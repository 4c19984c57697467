"""Networks that only read: convolutions hold their BatchNorm, and weights lie as oneDNN wants them.

A network names its pairs of convolution and norm in `FOLDS`. A fifth of a line's time is saved.
"""

from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from core.parts.onednn import ReadConv, ReadLSTM
from vision.ocr.models.parts import BothWays, Residual, beyond

FOLDED: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""What was made of the networks that are in use."""


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation for reading alone; the network itself where it has no pairs."""
    if not any(hasattr(part, "FOLDS") for part in network.modules()):
        return network
    found = FOLDED.get(network)
    if found is None:
        found = deepcopy(network).eval()
        for part in list(found.modules()):
            for conv, norm in getattr(part, "FOLDS", ()):
                fold(part, conv, norm)
        for part in list(found.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, Residual):
                    setattr(part, name, ReadResidual(child))
            if isinstance(part, BothWays):
                part.readers = [ReadLSTM() for _ in part.units[::2]]
        FOLDED[network] = found
    return found


def fold(part: Any, conv: str, norm: str) -> None:
    """Put the norm of a part into its convolution, and nothing in the norm's place."""
    whole = fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm))
    whole.weight.data = whole.weight.data.contiguous(memory_format=torch.channels_last)
    setattr(part, conv, ReadConv(whole))
    setattr(part, norm, nn.Identity())


class ReadResidual(nn.Module):
    """A folded `Residual`: the sum and both relu are done by the convolutions on their way."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = ReadConv(part.conv1.conv, relu=True), ReadConv(part.conv2.conv, relu=True)
        self.shortcut = ReadConv(part.shortcut) if isinstance(part.shortcut, nn.Conv2d) else part.shortcut

    def forward(self, x: Tensor, widths: Tensor | None) -> Tensor:
        y = beyond(self.conv1(x), widths)
        return beyond(self.conv2(y, self.shortcut(x)), widths)
