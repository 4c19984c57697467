"""Where a run begins and how it ends: start weights, frozen parts, a score's sign, `finish`, the clock."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError, RecurraError, UnfinishedWarning, WeightsError, WorkError
from core.training import LoopOptions, Start, check_folder, freeze, unfreeze
from core.training.frozen import train_mode
from core.weights import Card, load, load_network, save
from tests.core.training.runs import CARD, OPTIONS, build, final, run, same, step

PLAIN = LoopOptions(epochs=2, lr=0.01)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_score_with_a_minus_is_maximised_and_told_as_it_is(tmp_path: Path) -> None:
    scores = iter([0.2, 0.7, 0.5])
    outcome = run(tmp_path, validate=lambda model: {"accuracy": next(scores)}, score="-accuracy")
    assert (outcome.score, outcome.epoch) == (0.7, 2)
    assert load(outcome.weights)[1].score == {"accuracy": 0.7}
    assert "accuracy 0.7" in (tmp_path / "card.md").read_text()


def test_fine_tuning_validates_before_the_first_step(tmp_path: Path) -> None:
    first = run(tmp_path / "a", options=PLAIN)
    second = run(tmp_path / "b", options=PLAIN, start=tmp_path / "a")
    table = rows(tmp_path / "b")
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert float(table[0]["val_error"]) == first.score
    assert table[0]["train_loss"] == ""
    assert second.score <= first.score
    parent = load(second.weights)[1].extra["parent"]
    assert parent["weights"] == "a"
    assert len(parent["sha256"]) == 64


def test_a_harmful_fine_tuning_keeps_the_start(tmp_path: Path) -> None:
    run(tmp_path / "a", options=PLAIN)
    scores = iter([1.0, 2.0, 3.0])
    outcome = run(
        tmp_path / "b",
        options=dataclasses.replace(PLAIN, lr=1.0, epochs=2),
        start=tmp_path / "a" / "model.safetensors",
        validate=lambda model: {"error": next(scores)},
    )
    assert (outcome.epoch, outcome.score) == (0, 1.0)
    assert same(load(outcome.weights)[0], load(tmp_path / "a" / "model.safetensors")[0])


def test_resuming_with_another_start_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", options=PLAIN)
    run(tmp_path / "b", options=PLAIN, start=tmp_path / "a")
    before = final(tmp_path / "b")
    run(tmp_path / "b", options=PLAIN, start=tmp_path / "a", resume=True)
    assert same(final(tmp_path / "b"), before)
    save(tmp_path / "other.safetensors", build(), CARD)
    with pytest.raises(ConfigError, match="start was"):
        run(tmp_path / "b", options=PLAIN, start=tmp_path / "other.safetensors", resume=True)


def test_a_start_may_fill_a_part_of_the_model(tmp_path: Path) -> None:
    net = build()
    tensors = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("head")}
    save(tmp_path / "part.safetensors", {**tensors, "head.weight": torch.zeros(5, 8)}, CARD)
    with pytest.raises(WeightsError, match="head"):
        run(tmp_path / "a", options=PLAIN, start=tmp_path / "part.safetensors")
    outcome = run(tmp_path / "b", options=PLAIN, start=Start(tmp_path / "part.safetensors", part=True))
    assert load(outcome.weights)[1].extra["parent"]["taken"] == len(tensors)


class Parts(nn.Module):
    """A body with batch norm and dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x[:, -1]))


def parts_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


@pytest.mark.parametrize("way", ["mark", "learns", "group"])
def test_frozen_parts_stay_as_they_are_and_in_evaluation(tmp_path: Path, way: str) -> None:
    model, modes = Parts(), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def watching(net: nn.Module, batch: Any) -> Tensor:
        modes.append((model.training, model.body.training, model.body[2].training))
        return parts_step(net, batch)

    changes: dict[str, Any] = {"options": PLAIN}
    if way == "mark":
        freeze(model.body)
    elif way == "learns":
        changes["learns"] = ("head.*",)
    else:
        changes["options"] = dataclasses.replace(PLAIN, optimizer={"groups": [("body.*", None, None, True)]})
    run(tmp_path, model=model, step=watching, **changes)
    assert set(modes) == {(True, False, False)}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("body")
    unfreeze(model.body)
    train_mode(model)
    assert model.body[2].training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_patterns_that_match_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"learns 'hed.\*' matches no parameter; there are rnn.weight_ih_l0"
    ):
        run(tmp_path, learns=("hed.*",))


def calibrating(model: nn.Module) -> dict[str, Any]:
    assert not model.training
    return {"temperature": float(torch.rand(()))}


def test_finish_writes_into_the_card_once_for_the_best_weights(tmp_path: Path) -> None:
    calls = []

    def finish(model: nn.Module) -> dict[str, Any]:
        calls.append(load(tmp_path / "model.safetensors")[1].extra)
        return calibrating(model)

    outcome = run(tmp_path, finish=finish)
    assert calls == [{"unfinished": "the run is still going on"}]
    assert set(outcome.card.extra) == {"temperature"}
    again = run(tmp_path, finish=finish, resume=True)
    assert len(calls) == 1
    assert again.card == outcome.card


def rebuilt(card: Card) -> nn.Module:
    return build()


def test_weights_of_a_run_that_goes_on_say_so_when_they_are_loaded(tmp_path: Path) -> None:
    hurried = dataclasses.replace(OPTIONS, max_minutes=1e-9)
    run(tmp_path / "a", options=hurried, finish=calibrating)
    with pytest.warns(UnfinishedWarning, match="training is not finished .* go on with resume=True"):
        load_network(tmp_path / "a", "test", rebuilt)
    run(tmp_path / "a", finish=calibrating, resume=True)
    load_network(tmp_path / "a", "test", rebuilt)


def test_a_finish_that_was_cut_short_runs_again_with_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", finish=calibrating)

    def cut(model: nn.Module) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", finish=cut)
    assert "unfinished" in load(tmp_path / "b" / "model.safetensors")[1].extra
    again = run(tmp_path / "b", finish=calibrating, resume=True)
    assert again.card.extra == whole.card.extra


def rounding(model: nn.Module) -> dict[str, Any]:
    """A finish that changes the weights, too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(64).round_().div_(64)
    return calibrating(model)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_run_that_the_clock_stops_again_and_again_keeps_the_weights_of_one_left_alone(
    tmp_path: Path, schedule: str
) -> None:
    options = dataclasses.replace(OPTIONS, schedule=schedule)
    alone = run(tmp_path / "a", options=options, finish=rounding)
    hurried = dataclasses.replace(options, max_minutes=1e-9)
    outcome, sessions = run(tmp_path / "b", options=hurried, finish=rounding, resume="auto"), 1
    while outcome.stopped == "time":
        assert set(outcome.card.extra) == {"temperature", "unfinished"}
        tensors = load(outcome.weights)[0]
        assert all(torch.equal(64 * part, (64 * part).round()) for part in tensors.values())
        outcome, sessions = run(tmp_path / "b", options=hurried, finish=rounding, resume="auto"), sessions + 1
    assert sessions == 21
    assert same(load(outcome.weights)[0], load(alone.weights)[0])
    assert outcome.card.extra == alone.card.extra
    assert (outcome.score, outcome.epoch) == (alone.score, alone.epoch)
    assert not (tmp_path / "b" / "last" / "best.safetensors").exists()


def test_auto_begins_and_goes_on_and_other_words_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path / "a", options=PLAIN, resume="auto").steps == 28
    assert run(tmp_path / "a", options=PLAIN, resume="auto").steps == 28
    with pytest.raises(ConfigError, match="already holds a run"):
        run(tmp_path / "a", options=PLAIN)
    with pytest.raises(ConfigError, match="resume must be true, false or \"auto\", got 'maybe'"):
        run(tmp_path / "a", options=PLAIN, resume="maybe")


def test_a_run_folder_that_cannot_be_made_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RecurraError, match="file is no folder"):
            check_folder(out, False)


def test_validation_inside_an_epoch_counts_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, validate_steps=3)
    run(tmp_path / "a", options=options)
    assert [row["epoch"] for row in rows(tmp_path / "a")][:4] == ["0.4286", "0.8571", "1", "1.2857"]
    assert [row["step"] for row in rows(tmp_path / "a")][:4] == ["3", "6", "7", "9"]
    hurried = dataclasses.replace(options, max_minutes=1e-9)
    outcome = run(tmp_path / "b", options=hurried)
    while outcome.stopped == "time":
        assert "Unfinished" in (tmp_path / "b" / "card.md").read_text()
        outcome = run(tmp_path / "b", options=hurried, resume=True)
    ended, alone = final(tmp_path / "b"), final(tmp_path / "a")
    ended["state"].pop("origin"), alone["state"].pop("origin")  # max_minutes is part of it
    assert same(ended, alone)
    assert "Unfinished" not in (tmp_path / "b" / "card.md").read_text()


def test_a_clock_before_the_first_validation_leaves_weights_that_do_not_count(tmp_path: Path) -> None:
    hurried = dataclasses.replace(OPTIONS, max_minutes=1e-9)
    outcome = run(tmp_path, options=hurried, finish=calibrating)
    assert (outcome.stopped, outcome.epoch, outcome.steps) == ("time", 0, 1)
    assert outcome.card.score["error"] == outcome.score
    assert "unfinished" in outcome.card.extra
    assert torch.load(tmp_path / "last" / "state.pt", weights_only=True)["position"]["best_epoch"] == 0


def test_batches_without_anything_to_learn_are_counted_and_change_nothing(tmp_path: Path) -> None:
    taken = 0

    def sometimes(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        return None if taken % 3 == 0 else step(model, batch)

    outcome = run(tmp_path, step=sometimes)
    assert outcome.steps == 21
    assert "14 batches with nothing to learn" in (tmp_path / "card.md").read_text()
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WorkError, match="nothing to learn"):
        run(tmp_path / "never", step=lambda model, batch: None, model=model, validate=None, score="loss")
    assert same(dict(model.state_dict()), before)
