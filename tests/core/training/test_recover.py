"""Plateaus, explosions, hooks and weights of batches; all of it resumes to the same bits."""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError, WorkError
from core.training import LoopOptions, RecoverOptions, ScheduleOptions, ShuffledBatches
from core.training.folder import locked
from core.training.run import CHECKED
from tests.core.training.runs import Noisy, build, data, final, run, same, step

PLAIN = LoopOptions(epochs=2, lr=0.01)


def state(out: Path) -> dict[str, Any]:
    return torch.load(out / "last" / "state.pt", weights_only=True)


def step_by_step(out: Path, options: LoopOptions, **words: Any) -> None:
    """Train in sessions of one step each."""
    hurried = dataclasses.replace(options, max_minutes=1e-9)
    outcome = run(out, options=hurried, **words)
    while outcome.stopped == "time":
        outcome = run(out, options=hurried, resume=True, **words)


def figures(model: nn.Module) -> dict[str, float]:
    """The error on what was trained on."""
    x, y = data()
    return {"error": (model(x) - y).square().mean().item()}


PLATEAU = dataclasses.replace(
    PLAIN,
    epochs=5,
    lr=0.3,
    schedule=ScheduleOptions("plateau", warmup=0.0, patience=1, factor=0.3),
    validate_steps=3,
)


def test_a_plateau_brings_the_best_weights_back_and_lowers_the_rate(tmp_path: Path) -> None:
    scores = iter([5.0, 4.0, 6.0, 6.0, 3.0, *[9.0] * 99])
    seen: list[dict[str, Tensor]] = []

    def judge(model: nn.Module) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"error": next(scores)}

    begun: list[dict[str, Tensor]] = []

    def watching(model: nn.Module, batch: Any) -> Any:
        begun.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return step(model, batch)

    options = dataclasses.replace(PLATEAU, epochs=1, validate_steps=2)
    run(tmp_path, options=options, validate=judge, step=watching)
    with open(tmp_path / "metrics.csv") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.3, 0.3, 0.3, 0.09, 0.027, 0.027, 0.0081])
    assert same(begun[6], seen[1])  # after the third validation the second one's weights are back
    assert same(begun[8], seen[1])
    assert not same(begun[10], seen[1])
    assert state(tmp_path)["position"]["height"] == pytest.approx(0.3**4)


def test_a_plateau_resumes_with_its_height_and_its_count_of_bad_validations(tmp_path: Path) -> None:
    options = dataclasses.replace(PLATEAU, schedule=dataclasses.replace(PLATEAU.plan, patience=2))
    run(tmp_path / "a", options=options, validate=figures)
    assert state(tmp_path / "a")["position"]["height"] < 1
    step_by_step(tmp_path / "b", options, validate=figures)
    ended, alone = final(tmp_path / "b"), final(tmp_path / "a")
    ended["state"].pop("origin"), alone["state"].pop("origin")
    assert same(ended, alone)


class Spoiled(Noisy):
    """Some batches are NaN."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = super().__call__(rows, generator)
        return (x * math.nan if 3 in rows else x), y


def spoiled() -> ShuffledBatches:
    return ShuffledBatches(116, 4, Spoiled(), seed=3)


def test_an_explosion_goes_back_to_the_best_weights_at_half_the_rate(tmp_path: Path) -> None:
    options = dataclasses.replace(PLAIN, epochs=3, recover=RecoverOptions(4))
    outcome = run(tmp_path / "a", options=options, batches=spoiled())
    at = state(tmp_path / "a")["position"]
    assert at["recovered"] == 3  # example 3 comes once an epoch
    assert at["height"] == 0.125
    assert 3 <= at["lost"] <= 3 * CHECKED
    assert math.isfinite(outcome.score)
    assert f"3, {at['lost']} steps taken back, lr at 0.125" in (tmp_path / "a" / "card.md").read_text()
    step_by_step(tmp_path / "b", options, batches=spoiled())
    ended, alone = final(tmp_path / "b"), final(tmp_path / "a")
    ended["state"].pop("origin"), alone["state"].pop("origin")
    assert same(ended, alone)


def test_a_run_that_explodes_too_often_has_failed(tmp_path: Path) -> None:
    options = dataclasses.replace(PLAIN, epochs=3, recover=1)
    with pytest.raises(WorkError, match="the loss became nan after going back 1 times in epoch 2"):
        run(tmp_path, options=options, batches=spoiled())
    assert state(tmp_path)["position"]["recovered"] == 1


def test_a_loss_above_what_was_allowed_is_an_explosion(tmp_path: Path) -> None:
    options = dataclasses.replace(PLAIN, recover=RecoverOptions(0, above=0.01))
    with pytest.raises(WorkError, match=r"the loss became [1-9]"):
        run(tmp_path, options=options)


def test_means_are_weighted_by_the_counts_that_a_step_gives(tmp_path: Path) -> None:
    given: list[tuple[float, float]] = []

    def counting(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        loss, count = (model(x) - y).square().mean(), x[:, 0, 0].abs().sum().detach()
        given.append((loss.item(), count.item()))
        return {"loss": loss, "count": count}

    run(tmp_path, options=dataclasses.replace(PLAIN, epochs=1), step=counting)
    expected = sum(loss * count for loss, count in given) / sum(count for _, count in given)
    header, row = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header.split(",")[3:5] == ["train_loss", "val_error"]
    assert float(row.split(",")[3]) == pytest.approx(expected, rel=1e-6)


def test_accumulated_batches_weigh_as_their_counts(tmp_path: Path) -> None:
    x, y = data()
    trained = []
    sizes = ([116], [16, 100])
    for number, parts in enumerate(sizes):
        pieces = iter(zip(x.split(parts), y.split(parts), strict=True))

        def counting(model: nn.Module, batch: Any, pieces: Any = pieces) -> dict[str, Tensor]:
            a, b = next(pieces)
            return {"loss": (model(a) - b).square().mean(), "count": torch.tensor(float(len(a)))}

        model = build(0.0)
        options = LoopOptions(
            epochs=1,
            max_steps=1,
            optimizer="sgd",
            lr=0.1,
            clip=None,
            schedule="constant",
            warmup=0.0,
            accumulate=len(parts),
        )
        run(tmp_path / str(number), options=options, step=counting, model=model)
        trained.append(model)
    for a, b in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_after_step_sees_every_change_of_the_weights(tmp_path: Path) -> None:
    numbers: list[int] = []

    def masked(model: nn.Module, number: int) -> None:
        numbers.append(number)
        model.head.weight[0] = 0

    model = build()
    run(tmp_path, model=model, options=PLAIN, after_step=masked)
    assert numbers == list(range(1, 29))
    assert (model.head.weight[0] == 0).all()
    assert (model.head.weight[1] != 0).all()


def test_workers_of_the_options_change_nothing_and_are_free_on_resume(tmp_path: Path) -> None:
    run(tmp_path / "a", options=PLAIN)
    run(tmp_path / "b", options=dataclasses.replace(PLAIN, workers=1, max_steps=None))
    ended, alone = final(tmp_path / "b"), final(tmp_path / "a")
    ended["state"].pop("origin"), alone["state"].pop("origin")
    assert same(ended, alone)
    run(tmp_path / "b", options=PLAIN, resume=True)


def test_a_folder_is_trained_into_by_one_process(tmp_path: Path) -> None:
    run(tmp_path, options=PLAIN)
    with (
        locked(tmp_path),
        pytest.raises(ConfigError, match=r"another process trains into .* \(pid \d+ on .* since .*\)"),
    ):
        run(tmp_path, options=PLAIN, resume=True)
    run(tmp_path, options=PLAIN, resume=True)


class Normed(nn.Module):
    """Statistics beside weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x[:, -1]))


@pytest.mark.parametrize("statistics", [False, True])
def test_batch_norm_statistics_are_averaged_if_asked_for(tmp_path: Path, statistics: bool) -> None:
    torch.manual_seed(0)
    options = dataclasses.replace(PLAIN, epochs=1, ema=0.5, ema_statistics=statistics)
    outcome = run(tmp_path, options=options, model=Normed())
    own = state(tmp_path)["learner"]["model"]["norm.running_mean"]
    from core.weights import load

    assert torch.equal(load(outcome.weights)[0]["norm.running_mean"], own) != statistics


def test_a_validation_that_wants_the_place_gets_it(tmp_path: Path) -> None:
    worlds = []

    def judge(model: nn.Module, place: Any) -> dict[str, float]:
        worlds.append((place.rank, place.world))
        return {"error": 1.0}

    run(tmp_path, options=PLAIN, validate=judge)
    assert worlds == [(0, 1)] * 2
