"""A flight looked back on: its errors are those of the evaluation, and nothing later is known."""

import numpy as np
import pytest

from apps.trajectory.data import Track
from apps.trajectory.evaluate import evaluate
from apps.trajectory.model import load_model
from apps.trajectory.predict import predict
from apps.trajectory.replay import BESIDE, replay
from apps.trajectory.synth import generate, recorded
from core.errors import ConfigError, DataError


def flight() -> Track:
    return recorded(generate(2, 1, split="test", families=["racing"], duration_s=12.0)[0])


def test_its_errors_are_those_of_the_evaluation() -> None:
    model, track = load_model(), flight()
    seen = replay(track, model, 1.0)
    report = evaluate(model, [track], stride=1, future_s=1.0, baselines=BESIDE)
    assert len(seen.ends) == report["n"]
    assert seen.mean["model"] == pytest.approx(report["model"]["fde_1s"], rel=1e-5)
    for name in BESIDE:
        assert seen.mean[name] == pytest.approx(report["baselines"][name]["fde_1s"], rel=1e-6)
    assert seen.held == pytest.approx(report["model"]["coverage90_1s"])
    assert next(iter(seen.error)) == "model"
    assert list(seen.mean.values())[1:] == sorted(list(seen.mean.values())[1:])


def test_what_was_known_at_a_moment_gives_the_same_prediction() -> None:
    model = load_model()
    seen = replay(flight(), model, 0.5, most=40)
    assert len(seen.ends) <= 40
    known = seen.up_to(0.0)
    assert len(known) == model.history
    answer = predict(seen.up_to(1.0), model, horizon_s=0.5)
    assert answer.time_s == pytest.approx(seen.time_s[-1])
    truth = seen.segment.positions[seen.ends[-1] + 5]
    assert np.linalg.norm(answer.mean[-1] - truth) == pytest.approx(seen.error["model"][-1], abs=1e-4)


def test_what_cannot_be_looked_back_on_is_a_sentence() -> None:
    model, track = load_model(), flight()
    short = Track("short", "short.csv", track.time_s[:20], None, track.positions[:20])
    with pytest.raises(DataError, match=r"short: the longest stretch has .* needs 31"):
        replay(short, model)
    line = Track("line", "line.csv", track.time_s, None, track.positions[:, :1])
    with pytest.raises(DataError, match="line has 1 coordinates; the model predicts 3"):
        replay(line, model)
    flat = Track("flat", "flat.csv", track.time_s, None, track.positions[:, :2])
    assert replay(flat, model).mean["model"] > 0
    with pytest.raises(ConfigError, match="horizon must be positive"):
        replay(track, model, 0)
