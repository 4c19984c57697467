"""Metrics against hand-made numbers; reference values are in the golden set."""

import math

import numpy as np
import pytest

from apps.trajectory import metrics


def test_displacement_errors_of_a_known_path() -> None:
    truth = np.zeros((1, 4, 3))
    predicted = np.zeros((1, 4, 3))
    predicted[0, :, 0] = [3, 0, 3, 6]
    predicted[0, :, 1] = [4, 0, 4, 8]
    np.testing.assert_allclose(metrics.ade(predicted, truth), [5.0])
    np.testing.assert_allclose(metrics.ade(predicted, truth, 2), [2.5])
    np.testing.assert_allclose(metrics.fde(predicted, truth), [10.0])
    np.testing.assert_allclose(metrics.fde(predicted, truth, 3), [5.0])


def test_best_of_several_futures_is_chosen_by_each_measure() -> None:
    truth = np.zeros((1, 2, 1))
    futures = np.array([[[[1.0], [4.0]], [[9.0], [0.0]]]])
    assert metrics.min_ade(futures, truth)[0] == 2.5
    assert metrics.min_fde(futures, truth)[0] == 0.0
    assert metrics.fde_of_min_ade(futures, truth)[0] == 4.0


def test_gaussian_scores_of_a_standard_normal() -> None:
    zero, one = np.zeros(1), np.ones(1)
    assert metrics.gaussian_nll(zero, one, zero)[0] == pytest.approx(0.5 * math.log(2 * math.pi))
    # 2 phi(0) - 1 / sqrt(pi)
    assert metrics.gaussian_crps(zero, one, zero)[0] == pytest.approx(0.23369497725)


def test_pinball_weighs_the_two_sides() -> None:
    assert metrics.pinball(np.zeros(1), np.array([2.0]), 0.9)[0] == pytest.approx(1.8)
    assert metrics.pinball(np.zeros(1), np.array([-2.0]), 0.9)[0] == pytest.approx(0.2)


def test_conformal_quantile_counts_one_more_score_than_there_are() -> None:
    scores = np.arange(1.0, 20.0)  # 19 scores: rank 18 of 20 * 0.9
    assert metrics.conformal_quantile(scores, 0.1) == 18.0
    assert metrics.conformal_quantile(scores[:8], 0.1) == math.inf


def test_conformal_balls_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        scores = rng.exponential(size=60)
        covered.append(rng.exponential(size=200) <= metrics.conformal_quantile(scores, 0.1))
    assert 0.895 < np.mean(covered) < 0.915


def test_a_horizon_beyond_the_prediction_has_no_number() -> None:
    path = np.zeros((3, 10, 3))
    found = metrics.summary(path, path, 0.1, (0.5, 1.0, 2.0))
    assert found["fde"] == {"0.5": 0.0, "1.0": 0.0, "2.0": None}
