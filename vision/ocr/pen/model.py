"""Networks of pens: steps -> text by CTC, one step at a time, and IMU sequences -> letters.

`PenNetwork` reads forwards only and offers the contract of a unit (`initial_state`, `forward`, `step`), so
`core.export.export_step` and `core.streaming.Streamer` serve it.
"""

from typing import Any

import torch
from torch import Tensor, nn

import core
from vision.ocr.pen.strokes import FEATURES


class PenNetwork(nn.Module):
    """x (B, T, FEATURES), state -> logits (B, T, V), state."""

    def __init__(self, outputs: int, unit: str = "lstm", hidden: int = 160, layers: int = 2) -> None:
        super().__init__()
        self.input_size, self.output_size = FEATURES, outputs
        self.stack = core.stack(unit, FEATURES, hidden, layers=layers, dropout=0.2 if layers > 1 else 0.0)
        self.head = nn.Linear(self.stack.output_size, outputs)

    def initial_state(self, x: Tensor) -> Any:
        """State before the first step of x (B, ...)."""
        return self.stack.initial_state(x)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.stack(x, state)
        return self.head(y), state

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step x (B, FEATURES)."""
        y, state = self.stack.step(x, state)
        return self.head(y), state


class LetterNetwork(nn.Module):
    """IMU sequences (B, T, 6) with lengths -> logits (B, letters); mean over the valid steps."""

    def __init__(self, letters: int, unit: str = "lstm", hidden: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("deviation", torch.ones(6))
        self.stack = core.stack(unit, 6, hidden, layers=layers)
        self.head = nn.Linear(self.stack.output_size, letters)

    def fit(self, sequences: list[Tensor]) -> None:
        """Mean and deviation of each channel, from training sequences."""
        every = torch.cat(sequences)
        self.get_buffer("mean").copy_(every.mean(0))
        self.get_buffer("deviation").copy_(every.std(0).clamp(min=1e-6))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        y, _ = self.stack((x - mean) / deviation, lengths=lengths)
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return self.head((y * inside[..., None]).sum(1) / lengths.clamp(min=1)[:, None])
