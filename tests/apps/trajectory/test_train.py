"""Training: recovery of a small task, the same run twice, no flight on two sides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.trajectory.config import AugmentConfig, DataConfig, ModelConfig, TrainConfig
from apps.trajectory.data import Track, flights
from apps.trajectory.evaluate import evaluate
from apps.trajectory.mixture import lines
from apps.trajectory.pools import MakeWindows, Pool, deal, gather, pooled, shared_out
from apps.trajectory.predict import load_model
from apps.trajectory.synth import curriculum
from apps.trajectory.train import fresh, train
from core.errors import ConfigError
from core.training import LoopOptions


def small(**model: object) -> TrainConfig:
    return TrainConfig(
        steps=60,
        batch=48,
        refine=180,
        balls=60,
        model=ModelConfig(hidden=16, layers=1, **model),  # pyright: ignore[reportArgumentType]
        data=DataConfig(generated=60, length=120, motions=2),
        loop=LoopOptions(epochs=3, lr=8e-3, ema=0.9),
    )


def circles(count: int, seed: int) -> list[Track]:
    rng = np.random.default_rng(seed)
    time_s = np.arange(100) / 10
    made = [curriculum.plain_circle(time_s, rng) for _ in range(count)]
    return [Track(f"circle {i}", f"circle_{i}.csv", time_s, None, p) for i, p in enumerate(made)]


def test_a_short_training_beats_constant_velocity_on_unseen_circles(tmp_path: Path) -> None:
    outcome = train(small(), tmp_path / "run", quiet=True)
    report = evaluate(load_model(outcome.weights), circles(30, seed=7), baselines=["constant_velocity"])[
        "overall"
    ]
    assert report["model"]["fde"]["1.0"] < 0.8 * report["constant_velocity"]["fde"]["1.0"]
    assert 0.7 < report["model"]["coverage90"]["1.0"] <= 1.0


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(
        steps=3, batch=16, refine=3, balls=3, model=ModelConfig(hidden=8, layers=1),
        data=DataConfig(generated=20, length=80, motions=2), loop=LoopOptions(epochs=1),
    )  # fmt: skip
    runs = [train(config, tmp_path / name, quiet=True).weights for name in ("a", "b")]
    a, b = (load_model(path).network.state_dict() for path in runs)
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "choice", [{"stateful": True}, {"encoder": "transformer"}, {"frame": "none", "dims": 2}]
)
def test_every_kind_of_model_trains_and_is_calibrated(tmp_path: Path, choice: dict) -> None:
    config = TrainConfig(
        steps=2, batch=16, refine=2, balls=2, model=ModelConfig(hidden=8, layers=1, **choice),
        data=DataConfig(generated=20, length=80, motions=2), loop=LoopOptions(epochs=1),
    )  # fmt: skip
    model = load_model(train(config, tmp_path / "run", quiet=True).weights)
    assert model.calibration is not None
    assert model.card is not None
    assert model.card.settings["model"]["hidden"] == 8
    assert model.factor() is not None


def test_no_flight_is_on_two_sides() -> None:
    both = [
        Track(
            f"flight_{number}_{sensor}",
            f"flight_{number}_{sensor}.csv",
            np.zeros(50),
            None,
            np.zeros((50, 3)),
        )
        for number in range(12)
        for sensor in ("davis", "snapdragon")
    ]
    parts = [set(flights(part)) for part in deal(both, TrainConfig())]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_a_handful_of_flights_is_not_spent_on_validation() -> None:
    few = [Track(f"f{i}", f"f{i}.csv", np.zeros(50), None, np.zeros((50, 3))) for i in range(4)]
    learnt, checked, calibrated = deal(few, TrainConfig())
    assert (len(learnt), len(checked), len(calibrated)) == (3, 0, 1)


def test_generated_flights_are_dealt_to_one_part_each() -> None:
    sources = gather(TrainConfig(data=DataConfig(generated=20, length=50, motions=0)), ())
    dealt = (sources.train, sources.validation, sources.calibration)
    parts = [[flight for group in part.values() for flight in group] for part in dealt]
    assert sum(map(len, parts)) == 20
    assert min(map(len, parts)) >= 2
    starts = [tuple(flight[0].tolist() + flight[-1].tolist()) for part in parts for flight in part]
    assert len(set(starts)) == 20


def test_the_same_seed_gives_the_same_flights_and_another_gives_others() -> None:
    made = [curriculum.flights(6, 60, 0.1, seed=seed) for seed in (5, 5, 6)]
    a, b, other = ([flight for group in groups.values() for flight in group] for groups in made)
    for one, same in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, same)
    assert len(other) == 6
    assert not any(x.shape == y.shape and np.allclose(x, y) for x in a for y in other)


@pytest.mark.parametrize("family", list(curriculum.FAMILIES))
def test_families_are_flights(family: str) -> None:
    make, _ = curriculum.FAMILIES[family]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        positions = make(0.1 * np.arange(200), rng)
        assert np.isfinite(positions).all()
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) / 0.1
        assert speed.max() < 40


def test_a_pool_gives_windows_of_one_segment() -> None:
    pieces = [np.full((n, 3), value, dtype=np.float32) for value, n in ((1, 5), (2, 3), (3, 9))]
    pool = Pool(pieces, 4)
    assert len(pool) == 2 + 6
    drawn = pool.draw(50, torch.Generator().manual_seed(0)).windows
    assert (drawn == drawn[:, :1]).all()
    assert sorted(set(drawn[:, 0, 0].tolist())) == [1.0, 3.0]


def test_shares_of_a_batch_add_up() -> None:
    sizes = {"generated patterns": 25, "generated free": 75, "a": 5, "b": 7, "empty": 0}
    shares = shared_out(TrainConfig(), sizes)
    assert shares == pytest.approx({"a": 0.1, "b": 0.1, "generated patterns": 0.2, "generated free": 0.6})


def test_families_of_motion_are_sources_of_their_own() -> None:
    config = TrainConfig(data=DataConfig(generated=0, motions=10))
    sources = gather(config, ())
    assert {"motion takeoff", "motion turn_1hz", "reports ship"} <= sources.train.keys()
    assert set(sources.yards) == set(sources.train)
    assert all(len(yard) == config.window.horizon and (yard > 0).all() for yard in sources.yards.values())
    # a circle at one sample a second is as large as its speeds at ten make it
    steps = [np.linalg.norm(np.diff(one, axis=0), axis=1) for one in sources.train["motion turn_1hz"]]
    assert 4 < np.median(np.concatenate(steps)) < 15
    sizes = {name: 100 for name in sources.train}
    shares = shared_out(config, {**sizes, "generated free": 100, "a": 5}, sources.yards)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] == pytest.approx(config.data.real_share)
    assert shares["generated free"] == pytest.approx(1 - config.data.real_share - config.data.motion_share)


def test_fast_recorders_bring_the_lines_through_all_samples() -> None:
    config = TrainConfig(data=DataConfig(generated=0, motions=6))
    sources = gather(config, ())
    pools = pooled(sources.train, config, config.window.history)
    fast = pools["fast noisy_100hz"]
    windows, through = fast.draw(40, torch.Generator().manual_seed(0))
    assert windows.shape == (40, 41, 3)
    assert through is not None
    thin = lines(windows[:, :21] - windows[:, 20:21])
    assert through.shape == thin.shape
    ends, rough = (windows[:, 20] + one[:, 1, 0] for one in (through, thin))
    further = windows[:, 20:].mean(1) - 10 * through[:, 1, 1]  # the middle of what comes, led back
    assert (ends - further).norm(dim=1).mean() < (rough - further).norm(dim=1).mean()
    batch = MakeWindows(replace(config, augment=AugmentConfig(shorten=0.0)), pools, sources.yards)(
        {"motion turn": 3, "fast noisy_100hz": 4, "fast rest": 2}, torch.Generator().manual_seed(1)
    )
    assert batch.past.shape == (9, 21, 3)
    torch.testing.assert_close(batch.through[:3], lines(batch.past[:3]))
    assert not torch.allclose(batch.through[3:], lines(batch.past[3:]), atol=1e-3)


def test_the_spread_is_learned_on_flights_of_its_own() -> None:
    config = TrainConfig(data=DataConfig(generated=40, motions=4))
    mine, others = gather(config, ()).train, gather(fresh(config), ()).train
    assert set(mine) == set(others)
    assert not any((a == b).all() for a, b in zip(mine["motion turn"], others["motion turn"], strict=False))
    assert sum(len(others[name]) for name in others if name.startswith("generated")) == 10


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        train(TrainConfig(data=DataConfig(generated=0, motions=0)), tmp_path / "run", quiet=True)
