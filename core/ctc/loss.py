"""CTC loss (Graves et al. 2006), and which targets it cannot reach.

loss_i = -log sum over alignments a of y_i of prod_t p_t(a_t)
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class CTCLoss(NamedTuple):
    """Losses of a batch and how many were left out."""

    loss: Tensor
    """(B,) negative log likelihoods, 0 where the target is impossible."""
    impossible: Tensor
    """() how many targets have no alignment in the frames they were given."""


def frames_needed(labels: Sequence[int]) -> int:
    """Frames without which CTC cannot write `labels`: one each, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def ctc_loss(
    logits: Tensor, targets: Tensor, lengths: Sequence[int] | Tensor, target_lengths: Sequence[int] | Tensor
) -> CTCLoss:
    """Loss of each sequence from logits (T, B, V), targets (B, L) padded or concatenated, blank 0.

    The log-softmax runs in float32 at least, whatever the precision of the logits. A target that needs more
    frames than it has costs nothing and gives no gradient, but is counted.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    log_probs = wide.log_softmax(-1)
    sizes = torch.as_tensor(lengths), torch.as_tensor(target_lengths)
    loss = F.ctc_loss(log_probs, targets, *sizes, blank=0, reduction="none", zero_infinity=True)
    # torch writes 0 for an impossible target; a possible one costs something unless it is certain
    impossible = (loss == 0) & torch.as_tensor(target_lengths, device=loss.device).gt(0)
    return CTCLoss(loss, impossible.sum())
