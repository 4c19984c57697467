"""What training of the slate networks minimises."""

import torch
from torch import Tensor

from recsys.features import Steps
from recsys.slates import FIRST


def slate_loss(log_probs: Tensor, steps: Steps) -> Tensor:
    """Mean negative log likelihood of the counted steps, for log P(slot) (B, T, S)."""
    taken = log_probs.gather(-1, steps.click_idx[..., None])[..., 0]
    return -(taken * steps.counted).sum() / steps.counted.sum().clamp_min(1)


def later_loss(log_probs: Tensor, steps: Steps, at_step: Tensor) -> Tensor:
    """Mean negative log probability (B, M, I) of the distinct items a user clicks after steps (B, M).

    A recommendation is asked for the steps to come, not for the next click, and a second click on an item
    that was recommended already is worth nothing more.
    """
    click = steps.click
    after = torch.arange(click.shape[1], device=click.device) > at_step[..., None]  # (B, M, T)
    chosen = (((click >= FIRST) & steps.counted)[:, None] & after).to(log_probs)
    index = click[:, None].expand(chosen.shape)
    wanted = torch.zeros_like(log_probs).scatter_add(-1, index, chosen).clamp_max(1)
    return -(log_probs * wanted).sum() / wanted.sum().clamp_min(1)


def offer_loss(log_probs: Tensor, steps: Steps, at_step: Tensor) -> Tensor:
    """Mean negative log probability (B, N, I) of the items on the recommendation slates of steps (B, N)."""
    rows = torch.arange(len(at_step), device=at_step.device)[:, None]
    shown = (steps.offered & steps.counted[..., None])[rows, at_step]  # (B, N, S)
    each = log_probs.gather(-1, steps.slate[rows, at_step]) * shown
    return -each.sum() / shown.sum().clamp_min(1)
