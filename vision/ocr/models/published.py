"""Published networks behind the interface of our own: ink (B, 1, H, W) in 0..1, widths -> logits (T, B, V).

Those without masks (`equal_widths`) answer otherwise when a line is padded, so their batches hold one width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vision.ocr.models.htr import HTRNet
from vision.ocr.models.pylaia import PyLaia
from vision.ocr.models.scene import Model
from vision.ocr.models.spelling import Spelled, spelled


class PublishedPyLaia(nn.Module):
    """PyLaia's CRNN with the arguments of its `model` file."""

    stride = 8

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__()
        self.network = PyLaia(**args)
        self.equal_widths = not self.network.use_masks

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        for block in self.network.conv:
            conv: Any = block.conv  # pyright: ignore[reportAttributeAccessIssue]
            k, s, p, d = (
                int(part[1]) for part in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
            )
            widths = (widths + 2 * p - d * (k - 1) - 1) // s + 1
            pool: Any = block.pool  # pyright: ignore[reportAttributeAccessIssue]
            widths = widths // pool[1] if pool else widths
        return widths

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        widths = ink.new_full((len(ink),), ink.shape[3], dtype=torch.long) if widths is None else widths
        sizes = torch.stack([torch.full_like(widths, ink.shape[2]), widths], 1).to(ink.device)
        return self.network(ink, sizes)[0], None


class PublishedHTR(nn.Module):
    """The best-practice HTR network; all lines have its one size."""

    stride = 8
    equal_widths = True

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__()
        self.network = HTRNet(**args)
        pools = sum(part == "M" for part in args["arch_cfg"]["cnn_cfg"])
        self.factor = 2 * 2**pools

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return widths // self.factor

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return self.network(ink)[0], None


class PublishedScene(nn.Module):
    """The scene-text benchmark with CTC: images of one size in -1..1, paper bright."""

    stride = 4
    equal_widths = True

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__()
        self.network = Model(**args)
        height, width = args.get("imgH", 32), args.get("imgW", 100)
        with torch.no_grad():
            self.columns = self.network.eval().visual(torch.zeros(1, 1, height, width)).shape[3]

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of every line."""
        return torch.full_like(widths, self.columns)

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return self.network(1 - 2 * ink).transpose(0, 1), None


class PublishedAttention(PublishedScene):
    """The same with attention (AttentionHTR): it spells, and has no frames to align."""

    def spell(self, ink: Tensor, widths: Tensor | None = None) -> list[Spelled]:
        """The text of each line; label 1 is the first character."""
        logits = self.network(1 - 2 * ink)
        return [
            spelled(row, stop=1, first=2, frames=self.columns) for row in logits.softmax(-1).cpu().numpy()
        ]


KINDS: dict[str, Any] = {
    "pylaia": PublishedPyLaia,
    "htr-best-practices": PublishedHTR,
    "scene-ctc": PublishedScene,
    "attentionhtr": PublishedAttention,
}
"""Networks by the layout that the card names."""


def build_published(layout: str, args: dict[str, Any]) -> nn.Module:
    """The network of a layout.

    Raises:
        KeyError: there is no such layout.
    """
    return KINDS[layout](args)
