"""Prepared lines through a network: log-probabilities of each line, in batches of near widths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vision.ocr.line import batch

BUDGET = 32768
"""Columns of a batch when nothing is learned."""


def as_input(ink: Tensor) -> Tensor:
    """uint8 ink (B, 1, H, W) -> 0..1."""
    return ink.float() / 255


@torch.no_grad()
def log_probabilities(network: Any, lines: Sequence[np.ndarray], budget: int = BUDGET) -> list[np.ndarray]:
    """Log-probabilities (T, V) of prepared lines (H, W), in their order."""
    device = next(network.parameters()).device
    network.eval()
    order = sorted(range(len(lines)), key=lambda i: lines[i].shape[1])
    answers: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(lines)
    while order:
        widest = lines[order[-1]].shape[1]
        size = max(1, budget // widest)
        if getattr(network, "equal_widths", False):
            size = min(size, sum(lines[i].shape[1] == widest for i in order))
        group, order = order[-size:], order[:-size]
        ink, widths = batch([lines[i] for i in group])
        valid = torch.tensor(widths)
        even = min(widths) == max(widths)
        logits, _ = network(
            as_input(torch.from_numpy(ink)[:, None].to(device)), None if even else valid.to(device)
        )
        found = logits.float().log_softmax(-1).transpose(0, 1).cpu().numpy()
        for i, row, frames in zip(group, found, network.frames(valid).tolist(), strict=True):
            answers[i] = row[:frames]
    return answers


@torch.no_grad()
def spell(network: Any, lines: Sequence[np.ndarray], budget: int = BUDGET) -> list[Any]:
    """What a network that spells says of prepared lines (H, W), in their order; each batch of one width."""
    device = next(network.parameters()).device
    network.eval()
    answers: list[Any] = [None] * len(lines)
    widths: dict[int, list[int]] = {}
    for i, line in enumerate(lines):
        widths.setdefault(line.shape[1], []).append(i)
    for width, rows in widths.items():
        size = max(1, budget // max(width, 1))
        for start in range(0, len(rows), size):
            group = rows[start : start + size]
            ink, _ = batch([lines[i] for i in group])
            for i, told in zip(
                group, network.spell(as_input(torch.from_numpy(ink)[:, None].to(device))), strict=True
            ):
                answers[i] = told
    return answers
