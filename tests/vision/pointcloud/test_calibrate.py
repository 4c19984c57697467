"""Scores as chances: what is fitted, what an error of it is, and the way there and back."""

import numpy as np
import pytest
from torch import nn

from core.errors import WeightsError
from vision.pointcloud.calibrate import chosen, fitted
from vision.pointcloud.metrics import Frame, calibration_error, front_share
from vision.pointcloud.predict import NAMES, Detector, checked_curves


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_slope_and_offset_are_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 20_000)
    hits = rng.random(20_000) < logistic(2.5 * logits + 0.7)
    slope, offset = fitted(logistic(logits), hits.astype(float))
    assert slope == pytest.approx(2.5, abs=0.1)
    assert offset == pytest.approx(0.7, abs=0.1)
    assert fitted(np.zeros(0), np.zeros(0)) == (1.0, 0.0)  # nothing seen changes nothing


def test_the_calibration_error_is_the_gap_between_score_and_share() -> None:
    box = np.array([[10.0, 0, 0, 4, 2, 1.5, 0]])
    far = box + np.array([0, 15.0, 0, 0, 0, 0, 0])
    hit = Frame(box, box[:0], box, np.array([0.75]))
    miss = Frame(box, box[:0], far, np.array([0.75]))
    assert calibration_error([hit, hit, hit, miss], 0.5) == pytest.approx(0, abs=1e-9)
    assert calibration_error([hit, miss], 0.5) == pytest.approx(0.25)
    assert calibration_error([Frame(box, box[:0], box[:0], np.zeros(0))], 0.5) is None


def test_chances_rise_with_scores_and_the_floor_lets_no_class_out() -> None:
    detector = Detector(nn.Linear(1, 1), {}, "none")
    detector.curves = {"Car": (3.0, 0.5), "Pedestrian": (2.0, 0.7), "Cyclist": (1.0, 0.0)}
    scores = np.linspace(0.01, 0.99, 50)
    for chance in (0.05, 0.3, 0.8):
        floor = detector.raw(chance)
        for name in NAMES:
            values = detector.chance(scores, name)
            assert (np.diff(values) > 0).all()
            assert (scores[values >= chance] >= floor - 1e-9).all()


def test_a_card_with_an_odd_calibration_is_refused(tmp_path) -> None:  # noqa: ANN001
    for odd in ({"Car": [1.0]}, {"Car": [-1.0, 0.0]}, {"Car": "steep"}, {"Car": [float("nan"), 0]}, 3):
        with pytest.raises(WeightsError, match="calibration"):
            checked_curves(tmp_path, odd)


def test_a_front_is_right_within_a_quarter_turn() -> None:
    truth = np.array([[10.0, 0, 0, 4, 2, 1.5, 0], [20.0, 0, 0, 4, 2, 1.5, 3.0], [30.0, 9, 0, 4, 2, 1.5, 0]])
    found = np.array([[10.1, 0, 0, 4, 2, 1.5, 3.1], [20, 0, 0, 4, 2, 1.5, -3.1], [30, 9, 0, 4, 2, 1.5, 0]])
    frame = Frame(truth, np.zeros((0, 7)), found, np.array([0.9, 0.8, 0.1]))
    assert front_share([frame], 0.5, 0.5) == 0.5
    assert front_share([frame], 0.5, 0.95) is None


def test_the_hardest_sensor_decides_the_threshold_of_cars() -> None:
    box, far = np.array([[10.0, 0, 0, 4, 2, 1.5, 0]]), np.array([[10.0, 15, 0, 4, 2, 1.5, 0]])
    none = Frame(box[:0], box[:0], box[:0], np.zeros(0))
    both = np.vstack([box, far])
    easy = Frame(box, box[:0], both, np.array([0.9, 0.2]))
    hard = Frame(box, box[:0], both, np.array([0.9, 0.6]))
    person = Frame(box, box[:0], box, np.array([0.5]))
    groups = [[{"Car": one, "Pedestrian": person, "Cyclist": none}] for one in (easy, hard)]
    found = chosen(groups, 0.9)
    assert found["Car"] == pytest.approx((0.9 + 0.6) / 2)
    assert chosen(groups[:1], 0.9)["Car"] == pytest.approx((0.9 + 0.2) / 2)
    assert chosen(groups, 0.4)["Car"] < 0.6  # half of the boxes may be wrong
    assert found["Pedestrian"] < 0.5


def test_a_detector_in_a_hurry_looks_once_and_has_thresholds_for_that() -> None:
    detector = Detector.open("pointcloud-tiny")
    usual = dict(detector.thresholds)
    assert detector.quick_thresholds != usual
    detector.hurry()
    assert not detector.mirror
    assert detector.thresholds == detector.quick_thresholds
    detector.thresholds["Car"] = 0.99  # what a person asks for leaves those of the weights alone
    assert detector.quick_thresholds["Car"] != 0.99
