"""Figures of slate models, with their protocol.

Log likelihood: mean over the steps t >= 5 whose click is neither padding nor unknown, the state updated with
every true click. hits@k of the authors: k items are recommended once, from the state after steps 0 to 4; the
figure is how many distinct of them the user clicks at steps 6 to 19 (step 5 is not counted), a mean over all
users that can exceed 1; clicked items are not removed. hitrate@k is whether there was one at all.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.features import Steps
from recsys.slates import FIRST

START = 5
"""First step that is scored; the ones before are history."""
PROTOCOL = {
    "loglik": "mean over steps t >= 5 with a known click or none, per step, natural logarithm",
    "hits": "20 items from the state after steps 0..4; distinct ones clicked at steps 6..; all users count",
    "seen": "kept",
}


def truth_after(steps: Steps, start: int = START) -> list[set[int]]:
    """Distinct items that each user clicked after step `start`."""
    click = steps.click[:, start + 1 :]
    clicked = (click >= FIRST) & steps.used[:, start + 1 :]
    return [set(row[keep].tolist()) for row, keep in zip(click, clicked, strict=True)]


def hits(recommended: Any, truth: list[set[int]]) -> np.ndarray:
    """How many recommended items of each user are in the truth."""
    return np.array(
        [len(set(np.asarray(row).tolist()) & wanted) for row, wanted in zip(recommended, truth, strict=True)]
    )


def scored(steps: Steps, start: int = START) -> Tensor:
    """(B, T) steps that the likelihood counts."""
    late = torch.arange(steps.slate.shape[1]) >= start
    return steps.counted & late


def taken(log_probs: Tensor, steps: Steps) -> Tensor:
    """log P of the slot that was clicked (B, T)."""
    return log_probs.gather(-1, steps.click_idx[..., None])[..., 0]


def calibration(chance: np.ndarray, happened: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Expected calibration error by deciles of the predicted chance, and the two rows of its plot."""
    if not len(chance):
        return {"ece": None, "predicted": [], "observed": [], "n": []}
    order = np.argsort(chance, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    predicted = [float(chance[part].mean()) for part in parts]
    observed = [float(happened[part].mean()) for part in parts]
    weights = [len(part) / len(chance) for part in parts]
    gaps = zip(weights, predicted, observed, strict=True)
    error = sum(weight * abs(a - b) for weight, a, b in gaps)
    return {"ece": error, "predicted": predicted, "observed": observed, "n": [len(part) for part in parts]}
