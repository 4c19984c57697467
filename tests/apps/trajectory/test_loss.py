"""Losses against their definitions."""

import math

import pytest
import torch

from apps.trajectory.augment import augment, lose_samples
from apps.trajectory.config import AugmentConfig
from apps.trajectory.loss import BALL, ball_loss, distance_loss, forecast_loss, gaussian_nll, pinball
from apps.trajectory.models.forecast import Forecast


def test_distance_is_weighted_by_time_and_speed() -> None:
    mean = torch.zeros(1, 4, 3)
    future = torch.zeros(1, 4, 3)
    future[0, 3, 0] = 2.0
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1 / 4])
    expected = (weights[3] * 1.0 + weights[:3].sum() * 1e-3) / weights.sum()
    assert distance_loss(mean, future, torch.tensor([2.0])).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_likelihood_is_that_of_the_normal_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(2, 4, 3, 3, generator=generator).tril() + 3 * torch.eye(3)
    error = torch.randn(2, 4, 3, generator=generator)
    normal = torch.distributions.MultivariateNormal(torch.zeros(3), scale_tril=factor)
    torch.testing.assert_close(gaussian_nll(error, factor), -normal.log_prob(error).mean())


def test_pinball_is_least_at_the_quantiles() -> None:
    error = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(1))
    best = torch.quantile(error, torch.tensor([0.1, 0.5, 0.9])).view(1, 1, 3, 1)
    least = pinball(best.expand(len(error), 1, 3, 1), error)
    for shift in (-0.2, 0.2):
        assert pinball((best + shift).expand(len(error), 1, 3, 1), error) > least


def test_the_ball_is_least_where_it_holds_nine_errors_of_ten() -> None:
    error = torch.randn(20_000, 1, 3, generator=torch.Generator().manual_seed(1))
    best = torch.quantile(error.norm(dim=-1), 0.9) / BALL
    level = torch.full((len(error),), 0.9)
    least = ball_loss(error, best.expand(len(error), 1), level)
    for factor in (0.9, 1.1):
        assert ball_loss(error, (factor * best).expand(len(error), 1), level) > least


def test_the_spread_does_not_excuse_a_worse_mean() -> None:
    mean = torch.randn(3, 4, 3, requires_grad=True)
    future, scale = torch.zeros(3, 4, 3), torch.ones(3, 1)
    factor = torch.eye(3).expand(3, 4, 3, 3)
    forecast = Forecast(mean, torch.ones(3, 4), cholesky=factor, axes=torch.eye(3).expand(3, 3, 3))
    (with_spread,) = torch.autograd.grad(forecast_loss(forecast, future, scale, torch.full((3,), 0.9)), mean)
    (alone,) = torch.autograd.grad(distance_loss(mean, future, scale), mean)
    torch.testing.assert_close(with_spread, alone)
    assert math.isfinite(forecast_loss(forecast, future, scale, torch.full((3,), 0.9)).item())


def windows() -> torch.Tensor:
    return torch.randn(64, 41, 3, generator=torch.Generator().manual_seed(2)).cumsum(1)


def test_augmentation_is_a_function_of_its_generator_and_keeps_the_anchor() -> None:
    drawn = [
        augment(windows(), 21, AugmentConfig(), torch.Generator().manual_seed(5), yaw=True) for _ in range(2)
    ]
    torch.testing.assert_close(drawn[0], drawn[1])
    quiet = AugmentConfig(noise=0)
    assert augment(windows(), 21, quiet, torch.Generator().manual_seed(5), yaw=True)[:, 20].abs().max() == 0


def test_noise_and_lost_samples_never_touch_the_future() -> None:
    plain = AugmentConfig(mirror=0, flip=0, reverse=0, scale=0, noise=0, gaps=0)
    rough = AugmentConfig(mirror=0, flip=0, reverse=0, scale=0, noise=1, noise_m=0.5, gaps=1)
    a = augment(windows(), 21, plain, torch.Generator().manual_seed(3), yaw=False)
    b = augment(windows(), 21, rough, torch.Generator().manual_seed(3), yaw=False)
    torch.testing.assert_close(a[:, 21:], b[:, 21:])
    assert (a[:, :21] - b[:, :21]).abs().max() > 0.1


def test_lost_samples_become_a_straight_line_between_their_neighbours() -> None:
    past = windows()[:, :21]
    filled = lose_samples(past, torch.ones(64, dtype=torch.bool), torch.Generator().manual_seed(4))
    changed = (filled != past).any(-1)
    assert 1 <= changed.sum(1).min()
    assert changed.sum(1).max() <= 4
    assert not changed[:, [0, -1]].any()
    row = int(changed.sum(1).argmax())
    lost = changed[row].nonzero()[:, 0]
    stretch = filled[row, lost[0] - 1 : lost[-1] + 2]
    torch.testing.assert_close(stretch.diff(dim=0).diff(dim=0), torch.zeros(len(lost), 3), atol=1e-4, rtol=0)


def test_reversing_mirroring_and_scaling_keep_the_shape_of_a_flight() -> None:
    quiet = AugmentConfig(noise=0, gaps=0, drift=0, scale_range=(2.0, 2.0), scale=1)
    changed = augment(windows(), 21, quiet, torch.Generator().manual_seed(6), yaw=True)
    steps = windows().diff(dim=1).norm(dim=-1).sum(1)
    torch.testing.assert_close(changed.diff(dim=1).norm(dim=-1).sum(1), 2 * steps, rtol=1e-4, atol=1e-4)


def test_a_moving_deck_adds_one_velocity_to_past_and_future() -> None:
    drift = AugmentConfig(mirror=0, flip=0, reverse=0, scale=0, noise=0, gaps=0, drift=1)
    still = AugmentConfig(mirror=0, flip=0, reverse=0, scale=0, noise=0, gaps=0, drift=0)
    a, b = (
        augment(windows(), 21, config, torch.Generator().manual_seed(3), yaw=False)
        for config in (still, drift)
    )
    added = (b - a).diff(dim=1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)
    assert (added[:, 0].norm(dim=1) > 0).all()
    assert b[:, 20].abs().max() == 0
