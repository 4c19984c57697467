"""Conformal radii: the definition, what is stored, and the online form."""

import numpy as np
import pytest

from apps.trajectory.conformal import Adaptive, Calibration
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


def test_the_adaptive_form_reaches_its_coverage_on_flights_it_was_not_calibrated_for() -> None:
    generator = np.random.default_rng(3)
    adaptive = Adaptive(Calibration.fit(generator.exponential(size=(2000, 1))), alpha=0.1, gamma=0.02)
    spread, missed = np.ones(1), []
    for _ in range(6000):
        out = 1.7 * generator.exponential(size=1) > adaptive.radius(spread)
        adaptive.update(out)
        missed.append(out[0])
    assert abs(np.mean(missed[1000:]) - 0.1) < 0.015


def test_unknown_steps_leave_alpha_alone() -> None:
    adaptive = Adaptive(Calibration.fit(np.ones((100, 2))))
    adaptive.update(np.array([1.0, np.nan]))
    assert adaptive.alpha[0] < 0.1
    assert adaptive.alpha[1] == 0.1
