"""What training minimises: distance in position, and the likelihood of its error.

The mean is fitted by distance alone. The spread is fitted to the error that the mean makes, with the
error held fixed, so a larger variance never excuses a worse mean and no warm start is needed.
"""

import math

import torch
from torch import Tensor

from apps.trajectory.models.forecast import Forecast

BALL = 1.6
"""Spreads that hold 90 % of the errors, about what a normal distribution has between a line and a plane."""


def distance_loss(mean: Tensor, future: Tensor, scale: Tensor) -> Tensor:
    """Weighted mean over steps of |mean - future| / scale.

    mean, future (B, K, D); scale (B, K) or (B, 1) in m/s, such as the recent speed, which gives slow and fast
    flight the same say. The distance is smooth at zero; step k weighs 1 / max(k, 3).
    """
    weight = 1 / torch.arange(1, mean.shape[1] + 1, dtype=mean.dtype, device=mean.device).clamp_min(3)
    squared = (mean - future).square().sum(-1) / scale.square()
    return ((squared + 1e-6).sqrt() * (weight / weight.sum())).sum(1).mean()


def gaussian_nll(error: Tensor, factor: Tensor) -> Tensor:
    """Negative log likelihood of errors (B, K, D) under N(0, L L^T), L = factor (B, K, D, D), averaged."""
    white = torch.linalg.solve_triangular(factor, error[..., None], upper=False)[..., 0]
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (0.5 * white.square().sum(-1) + log_det + 0.5 * error.shape[-1] * math.log(2 * math.pi)).mean()


def above_ball(distance: Tensor, spread: Tensor) -> Tensor:
    """By how much log distances of errors exceed those of the ball's edge."""
    return (distance + 1e-3).log() - (BALL * spread).log()


def quantile_loss(gap: Tensor, level: Tensor) -> Tensor:
    """Of gaps between what came and what was told, which is to lie above a share `level` of it."""
    return torch.maximum(level * gap, (level - 1) * gap)


def pinball(offsets: Tensor, error: Tensor, levels: tuple[float, ...] = (0.1, 0.5, 0.9)) -> Tensor:
    """Quantile loss of offsets (B, K, Q, D) for errors (B, K, D), summed over Q and D, averaged."""
    level = torch.tensor(levels, dtype=error.dtype, device=error.device)[:, None]
    gap = error[:, :, None] - offsets
    return quantile_loss(gap, level).sum((-2, -1)).mean()


def ball_loss(error: Tensor, spread: Tensor, level: Tensor) -> Tensor:
    """Pinball loss of log(BALL * spread) for log |error|: error (B, K, D), spread (B, K), level (B,).

    Its minimum has |error| < BALL * spread in a share `level` of the cases of every kind, easy or hard; the
    likelihood alone lets rare large errors widen the easy ones.
    """
    return quantile_loss(above_ball(error.norm(dim=-1), spread), level[:, None]).mean()


def forecast_loss(forecast: Forecast, future: Tensor, scale: Tensor, level: Tensor) -> Tensor:
    """Distance of the mean, plus small shares for whatever spread the model gives."""
    loss = distance_loss(forecast.mean, future, scale)
    error = (future - forecast.mean).detach()
    if forecast.cholesky is None and forecast.quantiles is None:
        return loss
    loss = loss + 0.3 * ball_loss(error, forecast.spread, level)
    if forecast.axes is not None:
        error = torch.einsum("bij,bkj->bki", forecast.axes, error)
    if forecast.cholesky is not None:
        loss = loss + 0.03 * gaussian_nll(error, forecast.cholesky)
    if forecast.quantiles is not None:
        size = scale[..., None]
        loss = loss + 0.3 * pinball(forecast.quantiles / size[..., None], error / size)
    return loss
