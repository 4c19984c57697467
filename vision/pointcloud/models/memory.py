"""Memory over sweeps: a core unit per cell of the bird's-eye map, carried on by the vehicle's own motion.

    h~ = what the cell held a sweep ago at the place that it is now (bilinear)
    h, y = unit(x, h~)                      x the features of this sweep
    x' = x + read(x, y, y~)                 speed = speed(read(x, y, y~))

The read-out starts at zero, so a detector with a fresh memory answers as it does without.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.registry import build
from core.state import map_state


class SweepMemory(nn.Module):
    """Features (B, C, H, W) of a sweep and the state of the last one -> features, speeds (B, 2, H, W), state.

    The state is that of the unit for every cell and the unit's last output, both with B * H * W rows.
    """

    def __init__(self, unit: str, width: int, cell_m: float, low_m: float) -> None:
        """cell_m: side of a cell; low_m: where the map begins, on x and y."""
        super().__init__()
        self.unit = build(unit, width, width)
        self.cell, self.low = cell_m, low_m
        self.read = nn.Sequential(
            nn.Conv2d(3 * width, width, 5, 1, 2), nn.GELU(), nn.Conv2d(width, width, 5, 1, 2), nn.GELU()
        )
        self.back = nn.Conv2d(width, width, 3, 1, 1)
        self.speed = nn.Conv2d(width, 2, 3, 1, 1)
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, state: Any, motion: Tensor) -> tuple[Tensor, Tensor, Any]:
        """motion (B, 3): x, y, yaw of this frame in that of the last sweep; state None: there was none."""
        size = x.shape
        cells = x.permute(0, 2, 3, 1).flatten(0, 2)
        if state is None:
            held, past = self.unit.initial_state(cells[:, None]), torch.zeros_like(cells)
        else:
            places = self.places(size, motion)
            held, past = map_state(lambda part: carried(part, size, places), state)
        now, held = self.unit.step(cells, held)
        seen = torch.cat([cells, now, past], 1).view(size[0], size[2], size[3], -1).permute(0, 3, 1, 2)
        read = self.read(seen)
        return x + self.back(read), self.speed(read), (held, now)

    def places(self, size: torch.Size, motion: Tensor) -> Tensor:
        """Where each cell's middle was a sweep ago, as `grid_sample` counts: (B, H, W, 2)."""
        axis = [
            self.low + (torch.arange(count, device=motion.device) + 0.5) * self.cell for count in size[2:]
        ]
        y, x = torch.meshgrid(*axis, indexing="ij")
        c, s = motion[:, 2].cos()[:, None, None], motion[:, 2].sin()[:, None, None]
        old = torch.stack(
            [c * x - s * y + motion[:, 0, None, None], s * x + c * y + motion[:, 1, None, None]], -1
        )
        extent = motion.new_tensor([size[3] * self.cell, size[2] * self.cell])
        return (old - self.low) / extent * 2 - 1


def carried(part: Tensor, size: torch.Size, places: Tensor) -> Tensor:
    """A tensor of the state (B * H * W, ...) at new places; what lay beyond the map is zero."""
    maps = part.reshape(size[0], size[2], size[3], -1).permute(0, 3, 1, 2)
    moved = functional.grid_sample(maps, places.to(maps.dtype), align_corners=False)
    return moved.permute(0, 2, 3, 1).reshape(part.shape)
