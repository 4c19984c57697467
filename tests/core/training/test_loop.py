"""What the loop does beside taking steps."""

import copy
import csv
import dataclasses
import itertools
import signal
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import core.training.run
from core.errors import ConfigError, WorkError
from core.training import LoopOptions, ShuffledBatches, train
from core.training.options import ScheduleOptions
from core.weights import load
from tests.core.training.runs import CARD, OPTIONS, build, data, run, step, validate

PLAIN = LoopOptions(epochs=2, lr=0.01, schedule="constant", warmup=0.0, clip=None, weight_decay=0.0)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def whole_data(batch: int = 116) -> ShuffledBatches:
    x, y = data()
    return ShuffledBatches(len(x), batch, lambda index, generator: (x[index], y[index]), seed=3)


def error_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


def test_a_run_leaves_settings_metrics_weights_checkpoint_and_card(tmp_path: Path) -> None:
    outcome = run(tmp_path, settings={"unit": "gru", "model": {"width": 8}, "note": None})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "card.md",
        "config.toml",
        "last",
        "metrics.csv",
        "model.safetensors",
    ]
    assert tomllib.loads((tmp_path / "config.toml").read_text()) == {"unit": "gru", "model": {"width": 8}}
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert list(rows(tmp_path)[0]) == [
        *("epoch", "step", "lr", "train_loss", "train_error", "val_error", "seconds")
    ]
    assert outcome.score == min(float(row["val_error"]) for row in rows(tmp_path))
    _, card = load(outcome.weights)
    assert card == outcome.card
    assert card.score == {"error": outcome.score}
    assert card.settings["model"] == {"width": 8}
    text = (tmp_path / "card.md").read_text()
    for fact in ("random numbers", "Wall time", f"error {outcome.score:.5g}", card.commit, '"width": 8'):
        assert fact in text


def test_the_model_ends_with_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, 2.0])
    seen: list[dict[str, Tensor]] = []

    def judge(model: nn.Module) -> dict[str, float]:
        seen.append(copy.deepcopy(model.state_dict()))
        return {"error": next(scores)}

    model = build()
    outcome = run(tmp_path, model=model, validate=judge)
    assert (outcome.epoch, outcome.score, outcome.epochs) == (2, 1.0, 3)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, seen[1][name])


def test_training_stops_when_patience_ends(tmp_path: Path) -> None:
    scores = iter([3.0, 2.0, 2.5, 2.0, 0.0])
    options = dataclasses.replace(OPTIONS, epochs=10, patience=2)
    outcome = run(tmp_path, options=options, validate=lambda model: {"error": next(scores)})
    assert (outcome.stopped, outcome.epochs, outcome.epoch) == ("patience", 4, 2)


def test_max_steps_ends_inside_an_epoch_and_counts_it(tmp_path: Path) -> None:
    outcome = run(tmp_path, options=dataclasses.replace(OPTIONS, max_steps=10))
    assert (outcome.stopped, outcome.steps, outcome.epochs) == ("steps", 10, 2)
    assert [row["step"] for row in rows(tmp_path)] == ["7", "10"]


def test_without_validation_the_training_loss_is_minimised(tmp_path: Path) -> None:
    outcome = run(tmp_path, options=PLAIN, step=error_step, validate=None, score="loss")
    assert outcome.score == min(float(row["train_loss"]) for row in rows(tmp_path))


def test_one_step_is_the_optimisers_step(tmp_path: Path) -> None:
    model, mine = build(0.0), build(0.0)
    options = dataclasses.replace(PLAIN, epochs=1, optimizer="sgd", lr=0.1)
    run(tmp_path, options=options, step=error_step, model=model, batches=whole_data())
    loss = error_step(mine, data())
    loss.backward()
    for ours, expected in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(ours, expected - 0.1 * expected.grad, rtol=1e-5, atol=1e-7)


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    trained = []
    for name, batch, accumulate in (("large", 116, 1), ("small", 29, 4)):
        model = build(0.0)
        options = dataclasses.replace(PLAIN, epochs=1, optimizer="sgd", lr=0.1, accumulate=accumulate)
        run(tmp_path / name, options=options, step=error_step, model=model, batches=whole_data(batch))
        trained.append(model)
    for a, b in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_clipped_by_its_norm(tmp_path: Path) -> None:
    model = build(0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    options = dataclasses.replace(PLAIN, epochs=1, optimizer="sgd", lr=1.0, clip=1e-3)
    run(tmp_path, options=options, step=error_step, model=model, batches=whole_data())
    squares = [(a - b).square().sum() for a, b in zip(model.parameters(), before, strict=True)]
    assert torch.stack(squares).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-3)


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    model = build(0.0)
    start = copy.deepcopy(model.state_dict())
    seen: list[dict[str, Tensor]] = []

    def judge(net: nn.Module) -> dict[str, float]:
        seen.append(copy.deepcopy(net.state_dict()))
        return {"error": 1.0}

    options = dataclasses.replace(PLAIN, epochs=1, ema=0.5)
    run(tmp_path, options=options, step=error_step, model=model, batches=whole_data(), validate=judge)
    own = torch.load(tmp_path / "last" / "state.pt", weights_only=True)["learner"]["model"]
    kept = load_file(tmp_path / "model.safetensors")
    for name, weight in kept.items():  # one update, with decay min(0.5, 1 / 10)
        torch.testing.assert_close(weight, 0.1 * start[name] + 0.9 * own[name], rtol=1e-5, atol=1e-7)
        assert torch.equal(weight, seen[0][name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_precision_learns(tmp_path: Path, precision: Any) -> None:
    options = dataclasses.replace(PLAIN, epochs=12, precision=precision, clip=1.0)
    outcome = run(tmp_path, options=options, step=error_step, model=build(0.0))
    losses = [float(row["train_loss"]) for row in rows(tmp_path)]
    assert losses[-1] < 0.35 * losses[0]
    assert outcome.epochs == 12


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    taken = 0

    def breaking(model: nn.Module, batch: Any) -> Tensor:
        nonlocal taken
        taken += 1
        return error_step(model, batch) * (float("nan") if taken > 20 else 1.0)

    with pytest.raises(WorkError, match=r"the loss became nan in epoch 2.*Lower lr \(now 0.01\)"):
        run(tmp_path, options=PLAIN, step=breaking)
    assert torch.load(tmp_path / "last" / "state.pt", weights_only=True)["position"]["epoch"] == 1


def test_a_score_that_is_never_finite_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="error is nan after epoch 1"):
        run(tmp_path, validate=lambda model: {"error": float("nan")})


def test_ctrl_c_keeps_the_step_that_was_going_on(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us deaf to it
    taken = 0

    def interrupted(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 5:
            signal.raise_signal(signal.SIGINT)
        return step(model, batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, step=interrupted)
    assert torch.load(tmp_path / "last" / "state.pt", weights_only=True)["position"]["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_validation_sees_a_model_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    modes = []

    def judge(model: nn.Module) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"error": 1.0}

    run(tmp_path, validate=judge)
    assert modes == [(False, False)] * 3


def test_tensorboard_is_written_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path, options=dataclasses.replace(PLAIN, epochs=1, tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_nothing_is_printed_when_stderr_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_epoch_loss_and_rate_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    run(tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 3/3" in captured.err
    assert "loss " in captured.err
    assert "steps/s" in captured.err


def test_a_step_without_a_loss_says_what_it_gave(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got \{'error': \(8, 2\)\}"):
        run(tmp_path, step=lambda model, batch: {"error": model(batch[0])})


def test_a_score_that_is_not_computed_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="score 'fde' is not among the figures error"):
        run(tmp_path, score="fde")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"lr": -1.0}, "lr must be positive, got -1"),
        ({"clip": 0.0}, "clip must be positive, or none"),
        ({"warmup": 1.0}, "warmup is a fraction"),
        ({"ema": 1.0}, "ema is a decay"),
    ],
)
def test_impossible_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoopOptions(**changes)


def test_an_epoch_shorter_than_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer batches than accumulate = 20"):
        train(
            build(),
            step,
            whole_data(),
            dataclasses.replace(PLAIN, accumulate=20),
            tmp_path / "run",
            validate=validate,
            settings={},
            seed=0,
            card=CARD,
        )
    assert not (tmp_path / "run").exists()


def test_a_schedule_by_the_clock_comes_down_with_the_minutes_and_judges_the_last_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(core.training.run, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    plan = ScheduleOptions("cosine", warmup=0.0, clock=True)
    options = LoopOptions(epochs=1000, lr=0.01, max_minutes=1.0, schedule=plan)
    outcome = run(tmp_path, options=options)
    assert outcome.stopped == "clock"
    found = rows(tmp_path)
    rates = [float(row["lr"]) for row in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01 * 0.05
    assert int(found[-1]["step"]) == outcome.steps < 60
    assert "Unfinished" not in (tmp_path / "card.md").read_text()


def test_a_schedule_by_the_clock_needs_minutes() -> None:
    with pytest.raises(ConfigError, match="max_minutes"):
        LoopOptions(schedule=ScheduleOptions(clock=True))
