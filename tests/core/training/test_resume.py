"""A run that was killed and resumed ends with the same bits as one that was left alone."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.errors import ConfigError, RecurraError, WeightsError
from tests.core.training.runs import OPTIONS, STEPS_PER_EPOCH, batches, build, final, run, same, step

ROOT = Path(__file__).parents[3]
NEVER = -1


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    run(out)
    return final(out)


def killed(out: Path, *, resume: bool = False, micro_step: int = NEVER, write: int = NEVER) -> None:
    """Run in a process of its own, and SIGKILL it when it says that it is at a step or a write."""
    words = [str(out), str(int(resume)), str(micro_step), str(write)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.core.training.runs", *words],
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


@pytest.mark.parametrize(
    "micro_step",
    [
        pytest.param(2 * 2, id="before the first checkpoint", marks=pytest.mark.slow),
        pytest.param(2 * STEPS_PER_EPOCH + 5, id="inside the second epoch, between two batches of a step"),
    ],
)
def test_a_run_killed_inside_an_epoch_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: dict, micro_step: int
) -> None:
    killed(tmp_path, micro_step=micro_step)
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(1, id="the first checkpoint", marks=pytest.mark.slow),
        pytest.param(2, id="the first model.safetensors"),
        pytest.param(3, id="the checkpoint after it"),
        *(pytest.param(write, id=f"write {write}", marks=pytest.mark.slow) for write in range(4, 12)),
    ],
)
def test_a_run_killed_while_writing_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: dict, write: int
) -> None:
    killed(tmp_path, write=write)
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


@pytest.mark.slow
def test_a_run_killed_again_and_again_resumes_to_the_same_bits(tmp_path: Path, undisturbed: dict) -> None:
    killed(tmp_path, micro_step=11)
    for micro_step in (9, 10, 6):
        killed(tmp_path, resume=True, micro_step=micro_step)
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


@pytest.mark.parametrize("at", range(0, 3 * STEPS_PER_EPOCH, 4))
def test_a_run_stopped_by_an_error_at_any_step_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: dict, at: int
) -> None:
    taken = 0

    def failing(model: nn.Module, batch: Any) -> Any:
        nonlocal taken
        if taken == 2 * at:
            raise RuntimeError("the disk is full")
        taken += 1
        return step(model, batch)

    with pytest.raises(RuntimeError, match="disk"):
        run(tmp_path, step=failing)
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


def test_workers_change_nothing(tmp_path: Path, undisturbed: dict) -> None:
    run(tmp_path, batches=batches(workers=2))
    assert same(final(tmp_path), undisturbed)


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_goes_on(
    tmp_path: Path, undisturbed: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = torch.save, 0

    def filling(state: Any, file: Any) -> None:
        nonlocal written
        written += 1
        if written == 4:
            Path(file).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        save(state, file)

    monkeypatch.setattr(torch, "save", filling)
    with pytest.raises(RecurraError, match=r"state.pt: cannot be written \(.* is the disk full\?\)"):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


def test_a_finished_run_resumes_to_itself(tmp_path: Path, undisturbed: dict) -> None:
    first = run(tmp_path)
    model = build()
    again = run(tmp_path, resume=True, model=model)
    assert (again.score, again.steps, again.stopped) == (first.score, 21, "epochs")
    assert same(final(tmp_path), undisturbed)
    assert same(dict(model.state_dict()), undisturbed["best"])


def test_a_session_without_time_stops_and_the_next_goes_on(tmp_path: Path, undisturbed: dict) -> None:
    hurried = dataclasses.replace(OPTIONS, max_minutes=1e-9)
    outcomes = [run(tmp_path, options=hurried)]
    while outcomes[-1].stopped == "time":
        outcomes.append(run(tmp_path, options=hurried, resume=True))
    assert [outcome.steps for outcome in outcomes] == list(range(1, 22))
    ended = final(tmp_path)["state"]
    assert same(ended["learner"], undisturbed["state"]["learner"])
    assert final(tmp_path)["rows"] == undisturbed["rows"]


def test_the_callers_generators_are_left_alone(tmp_path: Path) -> None:
    model = build()
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    run(tmp_path, model=model)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_with_a_run_is_refused_without_resume(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run .*resume=True, or choose another folder"):
        run(tmp_path)


def test_resume_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to resume here"):
        run(tmp_path / "typo", resume=True)


def test_a_run_killed_before_it_wrote_anything_starts_when_resumed(tmp_path: Path, undisturbed: dict) -> None:
    run(tmp_path, resume=True)
    assert same(final(tmp_path), undisturbed)


def test_resume_with_other_settings_names_them(tmp_path: Path) -> None:
    run(tmp_path, settings={"model": {"width": 8, "unit": "gru"}, "lr": 0.1})
    with pytest.raises(ConfigError, match=r"model.width was 8, is 16\)"):
        run(tmp_path, settings={"model": {"width": 16, "unit": "gru"}, "lr": 0.1}, resume=True)


def test_resume_with_another_seed_or_other_loop_options_names_them(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ConfigError, match="seed was 11, is 12"):
        run(tmp_path, seed=12, resume=True)
    with pytest.raises(ConfigError, match=r"loop\.lr was 0\.01, is 0\.02"):
        run(tmp_path, options=dataclasses.replace(OPTIONS, lr=0.02), resume=True)


def test_resume_may_change_what_does_not_change_the_result(tmp_path: Path, undisturbed: dict) -> None:
    run(tmp_path, options=dataclasses.replace(OPTIONS, max_minutes=1e-9))
    run(tmp_path, options=dataclasses.replace(OPTIONS, checkpoint_steps=None), resume=True)
    assert same(final(tmp_path)["state"]["learner"], undisturbed["state"]["learner"])


def test_a_run_goes_on_to_more_epochs(tmp_path: Path) -> None:
    short = dataclasses.replace(OPTIONS, schedule="constant", warmup=0.0, epochs=2)
    long = dataclasses.replace(short, epochs=4)
    run(tmp_path / "long", options=long, settings={"loop": {"epochs": 4}})
    run(tmp_path / "a", options=short, settings={"loop": {"epochs": 2}})
    ended = run(tmp_path / "a", options=long, settings={"loop": {"epochs": 4}}, resume=True)
    assert (ended.epochs, ended.stopped) == (4, "epochs")
    assert "epochs = 4" in (tmp_path / "a" / "config.toml").read_text()
    alone, more = final(tmp_path / "long"), final(tmp_path / "a")
    assert same(more["state"]["learner"], alone["state"]["learner"])
    assert more["rows"] == alone["rows"]
    with pytest.raises(ConfigError, match=r"loop\.epochs was 4, is 3"):
        run(
            tmp_path / "a",
            options=dataclasses.replace(short, epochs=3),
            settings={"loop": {"epochs": 3}},
            resume=True,
        )
    assert "epochs = 4" in (tmp_path / "a" / "config.toml").read_text()


def test_the_schedule_of_more_epochs_is_that_of_the_new_length(tmp_path: Path) -> None:
    assert run(tmp_path, options=dataclasses.replace(OPTIONS, max_steps=7)).steps == 7
    assert run(tmp_path, options=dataclasses.replace(OPTIONS, max_steps=20), resume=True).steps == 20
    assert run(tmp_path, options=OPTIONS, resume=True).steps == 21


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path, size: int) -> None:
    run(tmp_path)
    state = tmp_path / "last" / "state.pt"
    state.write_bytes(state.read_bytes()[:size])
    with pytest.raises(WeightsError, match="damaged"):
        run(tmp_path, resume=True)
