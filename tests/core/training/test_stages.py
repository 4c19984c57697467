"""Several stages under one resume: the same bits wherever a kill came."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.training import LoopOptions, Outcome, Stage, train_stages
from core.weights import load
from tests.core.training.runs import CARD, batches, build, final, run, same, stall, step, validate

ROOT = Path(__file__).parents[3]
OPTIONS = LoopOptions(epochs=2, lr=0.01, accumulate=2, checkpoint_steps=3, ema=0.9)


def calibrated(model: nn.Module) -> dict[str, Any]:
    return {"factor": float(torch.rand(()))}


def stages(out: Path, *, step: Any = step, options: LoopOptions = OPTIONS, **changes: Any) -> Outcome:
    """The body, then the head with the body held."""
    workers = changes.pop("workers", 0)
    return train_stages(
        changes.pop("model", None) or build(),
        [
            Stage(
                "body",
                step,
                batches(workers=workers),
                options,
                learns=("rnn.*",),
                validate=validate,
                score="error",
            ),
            Stage("head", step, batches(workers=workers), options, ("head.*",), "error", validate),
        ],
        out,
        **{"settings": {"width": 8}, "seed": 11, "card": CARD, "finish": calibrated, "quiet": True} | changes,
    )


def everything(out: Path) -> dict[str, Any]:
    """All that stages leave, without times."""
    parts: dict[str, Any] = {name: final(out / name) for name in ("1-body", "2-head")}
    tensors, card = load(out / "model.safetensors")
    return {**parts, "tensors": tensors, "extra": card.extra, "score": card.score}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("stages")
    stages(out)
    return everything(out)


def test_stages_are_runs_of_their_own_and_the_last_lies_at_the_top(tmp_path: Path) -> None:
    held: list[tuple[bool, bool]] = []

    def watching(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        held.append((model.rnn.training, model.head.training))
        return step(model, batch)

    model = build()
    outcome = stages(tmp_path, step=watching, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("1-body", "2-head", "card.md", "config.toml", "last", "metrics.csv", "model.safetensors")
    ]
    assert held == [(True, False)] * 28 + [(False, True)] * 28
    first, _ = load(tmp_path / "1-body" / "model.safetensors")
    last, card = load(outcome.weights)
    start = dict(build().state_dict())
    for name in last:
        assert torch.equal(first[name], start[name]) == name.startswith("head")
        assert torch.equal(last[name], first[name]) == name.startswith("rnn")
    assert set(card.extra) == {"parent", "factor"}
    assert [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == [
        *("stage", "1-body", "1-body", "2-head", "2-head", "2-head")
    ]
    assert [stage.steps for stage in outcome.stages] == [14, 14]
    assert card.extra["parent"]["weights"] == "model.safetensors"
    assert (tmp_path / "card.md").read_text() == (tmp_path / "2-head" / "card.md").read_text()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_checkpoint_and_log_are_found_where_a_run_of_one_stage_has_them(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def watching(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        seen.append(tuple(str((tmp_path / name).readlink()) for name in ("last", "metrics.csv")))
        return step(model, batch)

    stages(tmp_path, step=watching)
    assert seen[27:29] == [(f"{part}/last", f"{part}/metrics.csv") for part in ("1-body", "2-head")]
    assert (tmp_path / "last/state.pt").samefile(tmp_path / "2-head/last/state.pt")
    assert not (tmp_path / "metrics.csv").is_symlink()  # the rows of all stages
    assert (tmp_path / "2-head/metrics.csv").read_text().count("\n") == 4
    stages(tmp_path, resume=True)
    assert not (tmp_path / "metrics.csv").is_symlink()
    with pytest.raises(ConfigError, match="already holds a run"):
        stages(tmp_path)


@pytest.mark.parametrize("at", [5, 27, 28, 30, 55])
def test_stages_stopped_by_an_error_anywhere_resume_to_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, Any], at: int
) -> None:
    taken = 0

    def failing(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        if taken == at:
            raise RuntimeError("the disk is full")
        taken += 1
        return step(model, batch)

    with pytest.raises(RuntimeError, match="disk"):
        stages(tmp_path, step=failing)
    stages(tmp_path, resume=True)
    assert same(everything(tmp_path), undisturbed)


def test_stages_stopped_by_the_clock_go_on_and_say_that_they_are_unfinished(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    hurried = dataclasses.replace(OPTIONS, max_minutes=1e-9)
    outcome = stages(tmp_path, options=hurried)
    extra = load(tmp_path / "model.safetensors")[1].extra
    assert extra["unfinished"] == "stopped by the clock in stage 1 of 2, body"
    assert 0 <= extra["factor"] < 1  # calibrated all the same
    sessions = 1
    while outcome.stopped == "time":
        outcome = stages(tmp_path, options=hurried, resume=True)
        sessions += 1
    assert sessions == 27  # a session that ends the first stage takes a step of the second, too
    ended = everything(tmp_path)
    for part in ("1-body", "2-head"):
        assert same(ended[part]["state"]["learner"], undisturbed[part]["state"]["learner"])
    assert same(
        {name: ended[name] for name in ("tensors", "extra")},
        {name: undisturbed[name] for name in ("tensors", "extra")},
    )


def test_stages_that_are_done_resume_to_themselves(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    stages(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # killed just before the last write
    outcome = stages(tmp_path, resume=True, step=None, workers=0)
    assert outcome.stopped == "epochs"
    assert same(everything(tmp_path), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("write", range(0, 24, 3))
def test_stages_killed_while_writing_resume_to_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, Any], write: int
) -> None:
    killed(tmp_path, write=write)
    stages(tmp_path, resume=True)
    assert same(everything(tmp_path), undisturbed)


@pytest.mark.slow
def test_stages_with_workers_killed_inside_and_between_resume_to_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    killed(tmp_path, micro_step=20, workers=2)
    killed(tmp_path, micro_step=12, workers=1, resume=True)
    killed(tmp_path, micro_step=9, workers=0, resume=True)
    stages(tmp_path, resume=True, workers=1)
    assert same(everything(tmp_path), undisturbed)


def test_a_folder_with_stages_is_refused_without_resume(tmp_path: Path) -> None:
    stages(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run \(config.toml, .*1-body, 2-head\)"):
        stages(tmp_path)
    with pytest.raises(ConfigError, match="width was 8, is 9"):
        stages(tmp_path, settings={"width": 9}, resume=True)
    with pytest.raises(ConfigError, match="no run to resume here"):
        stages(tmp_path / "typo", resume=True)
    run(tmp_path / "one", options=OPTIONS)
    with pytest.raises(ConfigError, match="holds a run of one stage"):
        stages(tmp_path / "one", resume=True)


def test_stages_need_names_of_their_own(tmp_path: Path) -> None:
    one = Stage("a", step, batches(), OPTIONS)
    with pytest.raises(ConfigError, match="names of their own"):
        train_stages(build(), [one, one], tmp_path / "x", settings={}, seed=0, card=CARD)


def killed(
    out: Path, *, resume: bool = False, micro_step: int = -1, write: int = -1, workers: int = 0
) -> None:
    """Run in a process of its own, and SIGKILL it when it says that it is at a step or a write."""
    words = [str(out), str(int(resume)), str(micro_step), str(write), str(workers)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.core.training.test_stages", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stalled\n"
        finally:
            process.kill()


if __name__ == "__main__":
    torch.set_num_threads(1)
    resume, stall_step, stall_write, workers = map(int, sys.argv[2:])
    taken = written = 0
    swap = os.replace

    def stalling_step(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        global taken
        if taken == stall_step:
            stall()
        taken += 1
        return step(model, batch)

    def stalling_replace(source: Any, target: Any, **words: Any) -> None:
        global written
        if written == stall_write:
            stall()
        written += 1
        swap(source, target, **words)

    os.replace = stalling_replace
    stages(Path(sys.argv[1]), step=stalling_step, resume=bool(resume), workers=workers)
