"""What training minimises: focal loss of the heat maps (CornerNet, arXiv 1808.01244), L1 of the numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

WEIGHTS = (1.0, 1.0, 0.5, 1.0, 1.0, 0.5, 1.5, 1.5)
"""Of offset x, y, z, ln l, ln w, ln h, cos 2a, sin 2a."""
REGRESSION, FRONT, SPEED = 0.7, 0.5, 0.1
CLAMP = 1e-4


def focal_loss(
    logits: Tensor, heat: Tensor, mask: Tensor, balance: Sequence[float] = (1.0, 1.0, 1.0)
) -> Tensor:
    """Heat maps (B, K, H, W) against theirs; `mask` (B, 1, H, W) is 0 where nothing is asked. A scalar.

    - sum over centres (1 - p)^2 ln p - sum elsewhere (1 - heat)^4 p^2 ln(1 - p), over the number of centres;
    each class counts by its weight in `balance` (K,).
    """
    p = logits.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
    centre = (heat == 1).float() * mask
    found = centre * (1 - p).square() * p.log()
    clear = (1 - heat).pow(4) * p.square() * (1 - p).log() * mask * (1 - centre)
    each = (found + clear) * logits.new_tensor(balance, dtype=torch.float32)[:, None, None]
    return -each.sum() / centre.sum().clamp(min=1)


def weighed(weight: Tensor, heat: Tensor, cells: Tensor, balance: Sequence[float]) -> Tensor:
    """Weights (K,) of cells (K,); centres count by the balance of the class whose heat (B, 3, H, W) is 1."""
    centre = (heat.permute(0, 2, 3, 1).flatten(0, 2)[cells] == 1).float()
    return weight * (1 + centre @ (centre.new_tensor(balance) - 1))


def numbers_loss(numbers: Tensor, cells: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """L1 of eight numbers, cross-entropy of the ninth and, where there are more, L1 of those: scalars.

    The ninth counts by cos^2 of the angle to the diagonal, (1 + sin 2a) / 2: at right angles to it either
    answer is right.

    Args:
        numbers: maps (B, 9, H, W), or (B, 11, H, W) with velocities.
        cells: (K,) cells of the batch that are asked, b H W + y W + x.
        target: (K, 9 or 11)
        weight: (K,)
    """
    numbers = numbers.float().permute(0, 2, 3, 1).reshape(-1, numbers.shape[1])[cells]
    total = weight.sum().clamp(min=1)
    scale = torch.tensor(WEIGHTS, device=numbers.device)
    l1 = ((numbers[:, :8] - target[:, :8]).abs() * scale * weight[:, None]).sum() / total
    front = functional.binary_cross_entropy_with_logits(numbers[:, 8], target[:, 8], reduction="none")
    clear = weight * (1 + target[:, 7]) / 2
    found = l1, (front * clear).sum() / clear.sum().clamp(min=1)
    if numbers.shape[1] == 9:
        return found
    speed = (numbers[:, 9:] - target[:, 9:]).abs().sum(1)
    return *found, (speed * weight).sum() / total
