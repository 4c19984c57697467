"""A network written in VGSL behind the interface of the line networks, trained here, readable by kraken.

Lines of a batch are of different width, and kraken blocks know of lengths only as masks, so each width is run
by itself when nothing is learned; in training they are padded, as kraken's own are.
"""

import torch
from torch import Tensor, nn

from vision.ocr.models.vgsl import VGSL, Convolution, MaxPool

SPEC = (
    "[1,{height},0,1 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,9,64 Do0.1,2 Mp2,2 "
    "Cr3,9,64 Do0.1,2 S1(1x0)1,3 Lbx{hidden} Do0.1,2 Lbx{hidden} Do0.1,2 O1c{outputs}]"
)


class VGSLLines(nn.Module):
    """ink (B, 1, H, W) in 0..1, widths (B,) -> logits (T, B, V), None."""

    equal_widths = True

    def __init__(self, spec: str, outputs: int, height: int, hidden: int) -> None:
        super().__init__()
        text = spec or SPEC
        self.network = VGSL(text.format(height=height, hidden=hidden, outputs=outputs))
        self.steps = [
            (*across(layer), isinstance(layer, Convolution))
            for layer in self.network.modules()
            if isinstance(layer, Convolution | MaxPool)
        ]
        self.stride = 1
        for _, step, _, _ in self.steps:
            self.stride *= step

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        for kernel, step, padding, grows in self.steps:
            widths = (widths + 2 * padding - kernel) // step + 1
            widths = widths.clamp(min=1) if grows else widths
        return widths

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        found, _ = self.network(ink)
        return found[:, :, 0].permute(2, 0, 1), None


def across(layer: Convolution | MaxPool) -> tuple[int, int, int]:
    """Kernel (dilated), stride and padding along x."""
    if isinstance(layer, MaxPool):
        return int(layer.kernel[1]), int(layer.stride[1]), 0
    conv = layer.co
    reach = int(conv.dilation[1]) * (int(conv.kernel_size[1]) - 1) + 1
    return reach, int(conv.stride[1]), int(conv.padding[1])  # pyright: ignore[reportArgumentType]
