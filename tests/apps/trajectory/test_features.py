"""Frames, scaling and normalisation: each can be undone, and none looks at the future."""

import math

import pytest
import torch

from apps.trajectory.features import (
    Normalisation,
    heading,
    integrate,
    into_frame,
    out_of_frame,
    stream_features,
    stream_start,
    velocities,
    window_features,
)
from core.errors import ConfigError


def walk(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).cumsum(-2)


def test_integrating_differences_gives_the_positions_back() -> None:
    positions = walk(2, 6, 3)
    offsets = integrate(velocities(positions, 0.1), 0.1)
    torch.testing.assert_close(positions[:, :1] + offsets, positions[:, 1:])


def test_the_frame_points_along_the_heading_and_can_be_undone() -> None:
    velocity = torch.tensor([[3.0, 4.0, 1.0]])
    turn = heading(velocity)
    torch.testing.assert_close(turn, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(into_frame(velocity, turn), torch.tensor([[5.0, 0.0, 1.0]]))
    torch.testing.assert_close(out_of_frame(into_frame(velocity, turn), turn), velocity)


def test_a_standing_drone_has_the_heading_of_the_x_axis() -> None:
    torch.testing.assert_close(heading(torch.zeros(1, 3)), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("dims", [2, 3])
def test_window_features_do_not_change_when_the_flight_is_turned(dims: int) -> None:
    velocity = walk(4, 20, dims)
    angle = torch.tensor([math.cos(1.1), math.sin(1.1)], dtype=torch.float64)
    plain, _ = window_features(velocity, "yaw")
    turned, anchor = window_features(into_frame(velocity, angle.expand(4, 20, 2)), "yaw")
    torch.testing.assert_close(plain, turned)
    assert plain.shape == (4, 20, 2 * dims + 2)
    last = anchor.restore(anchor.velocity[:, None])[:, 0]
    torch.testing.assert_close(last, into_frame(velocity[:, -1], angle.expand(4, 2)))


def test_axes_are_the_frame_in_the_world() -> None:
    velocity = torch.tensor([[[0.0, 2.0, 0.0]]]).expand(1, 5, 3)
    _, anchor = window_features(velocity, "yaw")
    expected = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(anchor.axes(3), expected, atol=1e-6, rtol=0)


def test_stream_features_do_not_look_ahead_and_do_not_know_the_heading() -> None:
    velocity = walk(2, 8, 3)
    angle = torch.tensor([[math.cos(2.0), math.sin(2.0)]] * 2, dtype=torch.float64)
    a, b = stream_start(velocity, 3), stream_start(velocity, 3)
    for sample in velocity.unbind(1):
        plain, _, a = stream_features(sample, a, "yaw", 0.1)
        turned, _, b = stream_features(into_frame(sample, angle), b, "yaw", 0.1)
        torch.testing.assert_close(plain, turned)


def test_the_first_sample_of_a_stream_has_no_change_and_its_own_speed() -> None:
    sample = torch.tensor([[2.0, 0.0, 0.0]])
    features, anchor, _ = stream_features(sample, stream_start(sample, 3), "yaw", 0.1)
    assert features[0, 3:6].abs().max() == 0
    torch.testing.assert_close(anchor.scale, torch.tensor([math.hypot(2.0, 0.15)]))


def test_exact_whitening_gives_the_identity_and_the_published_one_does_not() -> None:
    values = walk(500, 3, seed=3)
    exact = Normalisation.fit(values, "exact").apply(values)
    published = Normalisation.fit(values, "cholesky_T").apply(values)
    torch.testing.assert_close(torch.cov(exact.T), torch.eye(3, dtype=torch.float64))
    assert (torch.cov(published.T) - torch.eye(3, dtype=torch.float64)).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["max", "cholesky_T", "exact"])
def test_normalisation_can_be_undone(kind) -> None:  # noqa: ANN001
    values = walk(50, 3, seed=4)
    normalisation = Normalisation.fit(values, kind)
    torch.testing.assert_close(normalisation.invert(normalisation.apply(values)), values)


def test_max_normalisation_divides_all_axes_by_one_number() -> None:
    torch.testing.assert_close(
        Normalisation("max", maximum=4.0).apply(torch.tensor([2.0, -4.0])), torch.tensor([0.5, -1])
    )


def test_a_normalisation_without_its_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs the mean and the matrix L"):
        Normalisation("exact")
