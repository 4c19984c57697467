"""Conformal radii: the definition, what is stored, and the online form."""

import numpy as np
import pytest

from apps.trajectory.conformal import Calibration, LiveRadius, OwnRadius
from core.errors import DataError, WeightsError


def test_the_factor_is_the_score_of_the_stated_rank() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))[:, None]  # 99 scores 1..99
    assert Calibration.fit(scores).factor(0.1) == pytest.approx([90.0])  # ceil(100 * 0.9) = 90th smallest


def test_too_few_scores_give_an_infinite_ball() -> None:
    calibration = Calibration.fit(np.ones((5, 2)))
    assert np.isinf(calibration.factor(0.1)).all()
    assert calibration.factor(0.5).tolist() == [1.0, 1.0]


def test_ninety_per_cent_of_new_scores_are_inside() -> None:
    generator = np.random.default_rng(1)
    factor = Calibration.fit(generator.exponential(size=(4000, 3))).factor(0.1)
    inside = (generator.exponential(size=(20_000, 3)) <= factor).mean(0)
    assert np.abs(inside - 0.9).max() < 0.02


def test_stored_and_read_back_it_gives_the_same_factors() -> None:
    calibration = Calibration.fit(np.random.default_rng(2).exponential(size=(50, 4)))
    again = Calibration.from_dict(calibration.as_dict())
    np.testing.assert_allclose(again.factor(0.1), calibration.factor(0.1), atol=1e-5)
    assert np.isinf(again.factor(0.001)).all()
    assert again.count == 50


@pytest.mark.parametrize("stored", [{}, {"levels": [0.9], "count": 1, "factors": [[1.0, 2.0]]}])
def test_a_damaged_calibration_is_refused(stored: dict) -> None:
    with pytest.raises(WeightsError, match="calibration is damaged"):
        Calibration.from_dict(stored)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        Calibration.fit(np.array([[np.nan]]))


def test_a_live_radius_reaches_its_coverage_on_flights_it_was_not_calibrated_for() -> None:
    generator = np.random.default_rng(3)
    live, missed = LiveRadius(1), []
    for k in range(6000):
        size = 4.0 if k % 2000 < 1000 else 0.5  # the motion changes its kind
        truth = np.array([[size * generator.exponential(), 0.0, 0.0]])
        radius = 2.3 * live.factor
        live.tell(0.1 * k, 0.1, np.zeros((1, 3)), radius)
        live.learn(0.1 * (k + 1), lambda times, truth=truth: np.repeat(truth, len(times), 0))
        missed.append(truth[0, 0] > radius[0])
    shares = [np.mean(missed[begin : begin + 200]) for begin in range(200, 6000, 200)]
    assert abs(np.mean(missed[200:]) - 0.1) < 0.02
    assert 0.03 <= min(shares)
    assert max(shares) <= 0.2


def test_answers_whose_truth_will_not_come_teach_nothing() -> None:
    live = LiveRadius(2)
    live.tell(0.0, 0.1, np.zeros((2, 3)), np.ones(2))
    live.learn(0.1, lambda times: np.full((len(times), 3), 9.0))
    grown = live.factor.copy()
    assert grown[0] > 1
    assert grown[1] == 1
    live.forget()
    live.learn(5.0, lambda times: np.full((len(times), 3), 9.0))
    np.testing.assert_array_equal(live.factor, grown)


def test_balls_along_a_log_follow_its_misses_and_know_nothing_later() -> None:
    rng = np.random.default_rng(0)
    ends, steps = 21 + 5 * np.arange(400), 20
    scale = np.where(np.arange(400) < 200, 2.0, 0.5)[:, None]  # the motion changes its kind
    errors = np.abs(rng.normal(size=(400, steps))) * scale
    radii = np.full((400, steps), 1.64)
    own = OwnRadius(steps, 0.5)
    factors = own.factors(ends, errors, radii)
    assert (factors[0] == 1).all()
    inside = errors <= radii * factors
    for part in (slice(20, 200), slice(260, 400)):  # the change itself costs some
        assert 0.85 < inside[part].mean() < 0.95
    assert 0.55 < (errors <= radii)[20:200].mean() < 0.65
    pieces = OwnRadius(steps, 0.5)
    cut = [slice(0, 7), slice(7, 8), slice(8, 300), slice(300, 400)]
    again = np.concatenate([pieces.factors(ends[part], errors[part], radii[part]) for part in cut])
    np.testing.assert_allclose(again, factors)
    later = errors.copy()
    later[100] = 1e3  # known one step after the other, up to four answers later
    changed = OwnRadius(steps, 0.5).factors(ends, later, radii)
    np.testing.assert_array_equal(changed[:101], factors[:101])
    assert (changed[101, :5] > factors[101, :5]).any()
    np.testing.assert_array_equal(changed[101, 5:], factors[101, 5:])
    own.forget()
    assert not len(own.ends)
    assert (own.log != 0).any()
