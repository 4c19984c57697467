"""Losses of next-item models.

    sampled softmax   cross-entropy of the positive among it and k negatives, without logQ
    gBCE              -[beta log sigma(s+) + sum_j log(1 - sigma(s_j))] / (k + 1)
                      alpha = k / (n - 1), beta = alpha (t (1 - 1/alpha) + 1/alpha)
    BPR-max           -log(sum_j w_j sigma(s_t - s_j) + 1e-24) + reg sum_j w_j s_j^2, w softmax of the others
    in-batch softmax  the targets of other rows are the negatives, with an optional logQ correction

Column 0 of `logits` is the positive where a loss takes one row per position.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sampled_softmax(logits: Tensor, used: Tensor) -> Tensor:
    """Logits (..., 1 + k) with the positive first, positions that count (...)."""
    return mean_of(-logits.log_softmax(-1)[..., 0], used)


def full_softmax(logits: Tensor, target: Tensor, used: Tensor) -> Tensor:
    """Logits (..., I) of all items, targets (...)."""
    return mean_of(F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none"), used.flatten())


def bce(logits: Tensor, used: Tensor) -> Tensor:
    """Binary cross-entropy, a mean over columns and positions."""
    return gbce(logits, used, 1.0)


def gbce(logits: Tensor, used: Tensor, beta: float) -> Tensor:
    """Generalised BCE; written with softplus, so that a hopeless positive keeps its gradient."""
    each = beta * F.softplus(-logits[..., 0]) + F.softplus(logits[..., 1:]).sum(-1)
    return mean_of(each / logits.shape[-1], used)


def gbce_beta(negatives: int, items: int, t: float) -> float:
    """beta of gBCE for k negatives of n items; t = 0 is plain BCE, t = 1 calibrates fully."""
    alpha = negatives / (items - 1)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def pair_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """-log(sigma(p) + 1e-24) - log(1 - sigma(n) + 1e-24), a mean: the loss of FMLP-Rec."""
    loss = -(positive.sigmoid() + 1e-24).log() - (1 - negative.sigmoid() + 1e-24).log()
    return loss.mean()


def bpr_max(scores: Tensor, reg: float = 0.0, elu: float = 0.0) -> Tensor:
    """Scores (B, B + n) whose diagonal is the target; a sum over rows."""
    if elu > 0:
        scores = F.elu(scores, elu)
    own = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    weight = scores.masked_fill(own, float("-inf")).softmax(1)
    target = scores.diagonal()[:, None]
    loss = -((weight * (target - scores).sigmoid()).sum(1) + 1e-24).log()
    return (loss + reg * (weight * scores.square()).sum(1)).sum()


def in_batch_softmax(scores: Tensor, log_chance: Tensor | None = None) -> Tensor:
    """Cross-entropy of scores (B, B + n) whose diagonal is the target; a sum over rows.

    Args:
        log_chance: (B + n,) log of how often a column's item is drawn, for the logQ correction.
    """
    scores = scores if log_chance is None else scores - log_chance
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="sum")


def mean_of(each: Tensor, used: Tensor) -> Tensor:
    """Mean over the positions that count."""
    return (each * used).sum() / used.sum().clamp_min(1)
