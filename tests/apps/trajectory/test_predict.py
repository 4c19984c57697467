"""Prediction for users: rhythm, horizon, sets, geofences, and input that cannot be predicted."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.trajectory.config import ModelConfig, TrainConfig, WindowConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.data import Track
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.predict import (
    PIECE,
    Model,
    Prediction,
    closest_approach,
    entry_probability,
    load_model,
    predict,
    predict_along,
    sample_futures,
)
from core.config import to_dict
from core.errors import ConfigError, DataError, WeightsError
from core.weights import Card, save

PLAIN = {"representation": "residual_over_cv", "mirror": False}


def straight_model(head: str = "gaussian") -> Model:
    """A model that predicts constant velocity, with a calibration of factor 1 at 90 %."""
    torch.manual_seed(0)
    network = Predictor(ModelConfig(hidden=8, head=head, **PLAIN), WindowConfig())  # pyright: ignore
    torch.nn.init.zeros_(network.outer.weight)
    torch.nn.init.zeros_(network.outer.bias)
    calibration = Calibration.fit(np.ones((99, 20)))
    return Model(network.eval(), "straight", 3, 0.1, 21, 20, calibration)


def track(time_s: np.ndarray, velocity: tuple[float, ...] = (2.0, 0.0, 0.5), start: float = 0.0) -> Track:
    positions = start + time_s[:, None] * np.array(velocity)
    return Track("line", "line.csv", time_s, None, positions)


def test_a_straight_track_goes_on_straight_whatever_its_rate() -> None:
    for rate in (7.0, 10.0, 100.0):
        flight = track(np.arange(0, 4, 1 / rate))
        found = predict(flight, straight_model())
        assert found.time_s == pytest.approx(flight.time_s[-1])
        expected = flight.positions[-1] + found.ahead_s[:, None] * [2.0, 0.0, 0.5]
        np.testing.assert_allclose(found.mean, expected, atol=1e-4)


def test_a_far_origin_changes_nothing() -> None:
    near = predict(track(np.arange(40) / 10), straight_model()).mean
    far = predict(track(np.arange(40) / 10, start=1e7), straight_model()).mean
    np.testing.assert_allclose(far - 1e7, near, atol=1e-4)


def test_nothing_after_the_asked_time_is_used() -> None:
    time_s = np.arange(60) / 10
    whole = track(time_s)
    bent = Track("bent", "bent.csv", time_s, None, np.where(time_s[:, None] > 3.0, 99.0, whole.positions))
    a, b = predict(whole, straight_model(), at_s=3.0), predict(bent, straight_model(), at_s=3.0)
    np.testing.assert_array_equal(a.mean, b.mean)
    assert a.time_s == pytest.approx(3.0)


def test_a_gap_starts_a_new_history() -> None:
    time_s = np.concatenate([np.arange(30) / 10, 5 + np.arange(2) / 10])
    with pytest.raises(DataError, match=r"2 positions at steps of .* the model needs 3"):
        predict(track(time_s), straight_model())


def test_beyond_the_horizon_the_answer_is_null() -> None:
    found = predict(track(np.arange(40) / 10), straight_model(), horizon_s=3.0)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert found.mean.shape == (30, 3)
    assert told["mean"][20:] == [None] * 10
    assert told["radius"][20:] == [None] * 10
    assert told["mean"][19] is not None
    assert predict(track(np.arange(40) / 10), straight_model(), horizon_s=0.5).mean.shape == (5, 3)


def test_the_radius_is_the_calibrated_share_of_the_spread() -> None:
    model = straight_model()
    found = predict(track(np.arange(40) / 10), model)
    assert found.covariance is not None
    assert found.radius is not None
    spread = np.sqrt(np.trace(found.covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(found.radius, spread, rtol=1e-4)
    assert (np.diff(found.radius) > 0).all()


def test_quantiles_come_with_the_axes_they_are_along() -> None:
    found = predict(track(np.arange(40) / 10, (0.0, 3.0, 0.0)), straight_model("quantile"))
    assert found.quantiles is not None
    assert found.axes is not None
    assert found.quantiles.shape == (20, 3, 3)
    np.testing.assert_allclose(found.axes[0], [0, 1, 0], atol=1e-6)


def test_a_replay_equals_asking_at_each_moment() -> None:
    flight = track(np.arange(60) / 10)
    along = predict_along(flight, straight_model(), stride=7)
    assert [round(found.time_s, 3) for found in along] == [2.0, 2.7, 3.4, 4.1, 4.8, 5.5]
    single = predict(flight, straight_model(), at_s=along[2].time_s)
    np.testing.assert_allclose(along[2].mean, single.mean, atol=1e-5)


def test_a_replay_works_each_covariance_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    whole = Forecast.covariance

    def counted(self: Forecast) -> torch.Tensor | None:
        found = whole(self)
        made.append(0 if found is None else found.numel())
        return found

    monkeypatch.setattr(Forecast, "covariance", counted)
    answers = predict_along(track(np.arange(1300) / 10), straight_model(), stride=1)
    assert len(answers) == 1280
    # once per answer, and never more than a pass of PIECE answers at a time
    assert sum(made) == 1280 * 20 * 3 * 3
    assert max(made) == PIECE * 20 * 3 * 3


def test_a_mover_in_the_plane_is_predicted_in_the_plane() -> None:
    flat = track(np.arange(40) / 10, (2.0, 1.0))
    for found in (predict(flat, straight_model()), predict_along(flat, straight_model())[-1]):
        assert found.mean.shape == (20, 2)
        np.testing.assert_allclose(found.mean[9] - found.anchor, [2.0, 1.0], atol=1e-5)
        assert found.covariance is not None
        assert found.covariance.shape == (20, 2, 2)


@pytest.mark.parametrize("step", [0.25, 1.0, 30.0])
def test_the_answer_follows_the_rhythm_of_the_data(step: float) -> None:
    found = predict(track(step * np.arange(40)), straight_model())
    np.testing.assert_allclose(found.ahead_s, step * np.arange(1, 21))
    np.testing.assert_allclose(found.mean, found.anchor + found.ahead_s[:, None] * [2.0, 0.0, 0.5], rtol=1e-5)


def test_a_gap_is_half_a_second_and_five_steps_unless_told() -> None:
    slow = track(np.r_[np.arange(30.0), np.arange(40.0, 44.0)])
    assert len(predict_along(slow, straight_model(), stride=1)) == 10
    assert len(predict_along(slow, straight_model(), stride=1, max_gap=20)) > 10
    with pytest.raises(ConfigError, match="max-gap"):
        predict(slow, straight_model(), max_gap=0)


def test_a_track_of_fewer_coordinates_is_one_sentence() -> None:
    flat = track(np.arange(40) / 10, (2.0,))
    sentence = r"line has 1 coordinates; the model predicts 3\."
    for ask in (predict, predict_along):
        with pytest.raises(DataError, match=sentence):
            ask(flat, straight_model())
    for wrong in (np.zeros((1, 21, 2)), np.zeros((1, 21, 4)), np.zeros((21, 3))):
        with pytest.raises(DataError, match=r"coordinates; the model predicts 3|\(N, T, 3\)"):
            straight_model().forecast(wrong)


def moving(deviation: float = 0.2) -> Prediction:
    """From the origin along x at 1 m/s for 2 s."""
    ahead = 0.1 * np.arange(1, 21)
    mean = np.stack([ahead, 0 * ahead, 0 * ahead], 1)
    return Prediction(0.0, ahead, np.zeros(3), mean, covariance=np.tile(deviation**2 * np.eye(3), (20, 1, 1)))


def test_the_closest_approach_lies_between_steps() -> None:
    found = closest_approach(moving(), np.array([1.234, 0.5, 0.0]))
    assert (found.ahead_s, found.distance_m) == (pytest.approx(1.234), pytest.approx(0.5))
    behind = closest_approach(moving(), np.array([-1.0, 0.0, 0.0]))
    assert (behind.ahead_s, behind.distance_m) == (0.0, 1.0)


def test_a_sphere_on_the_way_is_entered_and_a_far_one_is_not() -> None:
    assert entry_probability(moving(0.01), np.array([1.0, 0.0, 0.0]), 0.3) == 1.0
    assert entry_probability(moving(0.01), np.array([1.0, 3.0, 0.0]), 0.3) == 0.0
    assert entry_probability(moving(), np.zeros(3), 0.1) == 1.0
    beside = entry_probability(moving(0.2), np.array([1.0, 0.5, 0.0]), 0.3)
    # the path misses by 0.2 m, one standard deviation of the sideways error; height matters a little
    assert 0.08 < beside < 0.16


def test_futures_have_the_covariance_and_stay_on_their_side() -> None:
    futures = sample_futures(moving(), 4000)
    np.testing.assert_allclose(np.cov(futures[:, 10].T), 0.04 * np.eye(3), atol=0.005)
    assert np.corrcoef(futures[:, 5, 1], futures[:, 15, 1])[0, 1] > 0.99


def test_without_covariance_futures_fill_the_conformal_ball() -> None:
    ahead = 0.1 * np.arange(1, 21)
    plain = Prediction(0.0, ahead, np.zeros(3), np.zeros((20, 3)), radius=np.full(20, 1.0), coverage=0.9)
    inside = np.linalg.norm(sample_futures(plain, 4000)[:, 0], axis=1) <= 1.0
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    with pytest.raises(DataError, match="neither a covariance nor a calibrated radius"):
        sample_futures(Prediction(0.0, ahead, np.zeros(3), np.zeros((20, 3))), 1)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        (np.zeros((2, 3)), "2 positions"),
        (np.zeros((21, 1)), "the history has 1 coordinates; the model predicts 3"),
        (np.full((21, 3), math.nan), "not finite"),
    ],
)
def test_what_cannot_be_predicted_says_why(past: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predict(past, straight_model())


@pytest.mark.parametrize("words", [{"horizon_s": 0.0}, {"horizon_s": 1e9}, {"coverage": 1.0}])
def test_horizon_and_coverage_have_ranges(words: dict) -> None:
    with pytest.raises(ConfigError, match=r"horizon must be|coverage must"):
        predict(np.zeros((21, 3)), straight_model(), **words)


def test_saved_weights_rebuild_the_model_they_were(tmp_path: Path) -> None:
    model = straight_model()
    assert model.calibration is not None
    settings = to_dict(TrainConfig(model=ModelConfig(hidden=8, **PLAIN)))  # pyright: ignore
    card = Card(
        "trajectory", "gru", "none", "none", settings, extra={"calibration": model.calibration.as_dict()}
    )
    save(tmp_path / "own.safetensors", model.network, card)
    again = load_model(tmp_path / "own.safetensors")
    past = np.random.default_rng(0).normal(size=(21, 3)).cumsum(0)
    np.testing.assert_array_equal(predict(past, again).mean, predict(past, model).mean)
    np.testing.assert_allclose(predict(past, again).radius, predict(past, model).radius)  # pyright: ignore


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "other.safetensors", {"a": torch.ones(1)}, Card("speech", "gru", "none", "none"))
    with pytest.raises(WeightsError, match="weights for 'speech', not for trajectory"):
        load_model(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="need their statistics"):
        load_model("published.pth")
