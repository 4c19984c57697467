"""Where the baselines of a page are, as a map: the network of `recurra ocr train segment`."""

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from core.weights import Card
from vision.ocr.models.vgsl import VGSL
from vision.ocr.segmentation.ink import darkness

WIDTH, STRIDE = 800, 4
SPEC = "[1,0,0,1 Cr5,5,16,2,2 Cr3,3,32,2,2 Gn8 Cr3,3,32 Cr3,3,32 Gn8 Lbx16 Lby16 Cr3,3,32 Gn8 O2l1]"


class Marks(nn.Module):
    """ink (B, 1, H, W) in 0..1 -> logits of baselines (B, 1, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = VGSL(SPEC)

    def forward(self, ink: Tensor) -> Tensor:
        return self.network(ink)[0]


def build_from(card: Card) -> nn.Module:
    """The network of a card."""
    return Marks()


def seen(grey: np.ndarray) -> Tensor:
    """A page (H, W) as the network sees it: 800 columns, ink high."""
    height = max(16, round(grey.shape[0] * WIDTH / grey.shape[1]))
    small = cv2.resize(grey, (WIDTH, min(height, 3 * WIDTH)), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(darkness(small)).float()
