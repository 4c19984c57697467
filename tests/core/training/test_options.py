"""Optimisers and their options, parameter groups by pattern, sections set by one word."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import parse_set, replace, to_dict, to_toml
from core.errors import ConfigError
from core.training import GroupOptions, LoopOptions, OptimizerOptions, ScheduleOptions
from core.training.distributed import Place
from core.training.learner import Learner
from core.training.optim import build_optimizers, clip_gradients
from tests.core.training.runs import build, final, run, same

PLAIN = LoopOptions(epochs=2, lr=0.01)


class Table(nn.Module):
    """Item vectors with sparse gradients beside a dense read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(20, 4, sparse=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.items((x[:, :, 0].abs() * 5).long().clamp(max=19)).mean(1))


def table_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


SPARSE = OptimizerOptions(groups=(GroupOptions("items.*", lr=0.05, optimizer="sparse_adam"),))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw", {"betas": (0.9, 0.98)}),
        ("nadam", {"momentum_decay": 0.01}),
        ("rmsprop", {"alpha": 0.9}),
        ("adadelta", {"rho": 0.95}),
        ("adagrad", {}),
        ("sgd", {"momentum": 0.5, "nesterov": True}),
        ("torch.optim:Adamax", {"eps": 1e-7}),
    ],
)
def test_optimisers_take_a_name_or_a_path_and_resume_to_the_same_bits(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    chosen = dataclasses.replace(PLAIN, optimizer=OptimizerOptions(name, options))
    run(tmp_path / "a", options=chosen)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", options=chosen, step=stopping(9))
    run(tmp_path / "b", options=chosen, resume=True)
    assert same(final(tmp_path / "b"), final(tmp_path / "a"))


def stopping(at: int) -> Any:
    """The step of `runs`, until somebody pulls the plug."""
    from tests.core.training.runs import step

    taken = 0

    def failing(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        if taken == at:
            raise KeyboardInterrupt
        taken += 1
        return step(model, batch)

    return failing


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"name": "adamx"}, r"no optimizer 'adamx'; there are adadelta, .* Did you mean adam"),
        ({"name": "torch.optim:Adan"}, "cannot be imported"),
        ({"name": "torch.nn:Linear"}, "is no optimizer"),
        ({"name": "torch.optim:LBFGS"}, "wants the loss several times"),
        (
            {"name": "adam", "options": {"beta": 1}},
            r"adam has no option 'beta'.* Did you mean betas",
        ),
        ({"name": "adam", "options": {"lr": 1}}, "set lr of the loop"),
        ({"name": "adam", "options": {"betas": (2, 3)}}, "adam refuses its options"),
        ({"groups": [("nothing.*",)]}, r"the parameter group 'nothing.\*' matches no parameter"),
        ({"groups": [("rnn.*",), ("rnn.bias*",)]}, "left without parameters"),
        ({"groups": [("rnn.*", None, 0.1, False, "sparse_adam")]}, "knows no weight decay"),
        ({"groups": [("*", None, None, True)]}, "everything frozen"),
    ],
)
def test_optimisers_that_cannot_be_are_refused(optimizer: dict[str, Any], message: str) -> None:
    options = dataclasses.replace(PLAIN, optimizer=optimizer)
    model = build()
    for group in options.learner.groups:
        if group.freeze:
            model.requires_grad_(False)
    with pytest.raises(ConfigError, match=message):
        build_optimizers(model, options)


def test_groups_have_their_own_rate_decay_and_optimiser() -> None:
    groups = (GroupOptions("rnn.bias*", decay=0.3), GroupOptions("head.*", lr=0.5, optimizer="sgd"))
    options = dataclasses.replace(PLAIN, weight_decay=0.1, optimizer=OptimizerOptions(groups=groups))
    first, second = build_optimizers(build(), options)
    rows = {group["name"]: (group["lr"], group["weight_decay"]) for group in first.param_groups}
    assert rows == {"decayed": (0.01, 0.1), "rnn.bias* plain": (0.01, 0.3)}
    rows = {group["name"]: (group["lr"], group["weight_decay"]) for group in second.param_groups}
    assert isinstance(second, torch.optim.SGD)
    assert rows == {"head.* decayed": (0.5, 0.1), "head.* plain": (0.5, 0.0)}


def test_sparse_tables_learn_beside_a_dense_rest_and_resume(tmp_path: Path) -> None:
    options = dataclasses.replace(PLAIN, optimizer=SPARSE, lr=0.02, epochs=4, checkpoint_steps=3)

    def model() -> Table:
        torch.manual_seed(3)
        return Table()

    outcome = run(
        tmp_path / "a", options=options, model=model(), step=table_step, validate=None, score="loss"
    )
    losses = [line.split(",")[3] for line in (tmp_path / "a" / "metrics.csv").read_text().splitlines()[1:]]
    assert float(losses[-1]) < 0.97 * float(losses[0])
    hurried = dataclasses.replace(options, max_minutes=1e-9)
    words: dict[str, Any] = {"step": table_step, "validate": None, "score": "loss"}
    again = run(tmp_path / "b", options=hurried, model=model(), **words)
    while again.stopped == "time":
        again = run(tmp_path / "b", options=hurried, model=model(), resume=True, **words)
    assert again.score == outcome.score
    assert same(final(tmp_path / "b")["state"]["learner"], final(tmp_path / "a")["state"]["learner"])


def test_one_clip_goes_over_sparse_and_dense_gradients() -> None:
    a, b = nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(3))
    indices = torch.tensor([[1, 1, 4]])
    a.grad = torch.sparse_coo_tensor(indices, torch.ones(3, 2), (5, 2), check_invariants=False)
    b.grad = torch.full((3,), 2.0)
    whole = torch.cat([a.grad.to_dense().flatten(), b.grad]).norm()
    clip_gradients([a, b], 1.0)
    clipped = torch.cat([a.grad.to_dense().flatten(), b.grad])
    assert whole > 4
    assert clipped.norm().item() == pytest.approx(1.0, rel=1e-5)


def test_one_cycle_moves_the_momentum_of_the_run() -> None:
    options = LoopOptions(schedule=ScheduleOptions("one_cycle", warmup=0.5), optimizer="adam")
    learner = Learner(build(), options, 100, Place())
    for number, expected in ((0, 0.95), (49, 0.85), (99, 0.95)):
        learner.set_rates(number, 1.0)
        assert learner.optimizers[0].param_groups[0]["betas"] == (pytest.approx(expected), 0.999)


def test_sections_may_be_set_by_a_word_a_table_or_the_names_of_0_1() -> None:
    words = parse_set(["schedule=linear", "warmup=0.2", "optimizer.options.betas=[0.8, 0.9]", "recover=2"])
    options = replace(LoopOptions(), words)
    assert options.plan == ScheduleOptions("linear", warmup=0.2)
    assert options.learner.options == {"betas": [0.8, 0.9]}
    assert options.recovery.times == 2
    assert options == LoopOptions(
        schedule="linear", warmup=0.2, optimizer={"options": {"betas": [0.8, 0.9]}}, recover=2
    )
    assert LoopOptions(schedule="cosine").plan.rise == 0.05
    with pytest.raises(ConfigError, match=r"schedule.name must be one of"):
        replace(LoopOptions(), parse_set(["schedule=cosin"]))


def test_options_survive_a_settings_file() -> None:
    import tomllib

    options = LoopOptions(
        optimizer=OptimizerOptions(groups=(GroupOptions("items.*", lr=0.1),)),
        schedule=ScheduleOptions("step", milestones=((0.5, 0.1),)),
    )
    read = tomllib.loads(to_toml(to_dict(options)))
    assert replace(LoopOptions(), read) == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"floor": 2.0}}, "schedule.floor"),
        ({"schedule": {"milestones": ((2.0, 0.1),)}}, "a milestone is"),
        ({"schedule": {"factor": 1.0}}, "schedule.factor must lie"),
        ({"recover": -1}, "recover.times"),
        ({"workers": -1}, "workers must not be negative"),
        ({"validate_steps": 0}, "validate_steps must be positive"),
        ({"optimizer": {"groups": [{"patern": "x"}]}}, "a parameter group has pattern"),
    ],
)
def test_impossible_sections_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoopOptions(**changes)
