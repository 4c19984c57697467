"""Training by the command: stopped, killed, and in two processes under torchrun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.weights import load

ROOT = Path(__file__).parents[3]
SMALL = [
    *("--set", "steps=40", "--set", "batch=16", "--set", "loop.epochs=3", "--set", "data.generated=20"),
    *("--set", "data.length=80", "--set", "data.motions=2", "--set", "model.hidden=8"),
    *("--set", "refine=120"),
    *("--set", "balls=20"),
    *("--set", "model.layers=1", "--threads", "1", "--set", "loop.checkpoint_steps=5", "--quiet"),
]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def command(out: Path, *words: str, processes: int = 1) -> subprocess.Popen[str]:
    """`recurra trajectory train` on a few generated flights, in a process group of its own."""
    launch = [sys.executable, *(TWO if processes == 2 else []), "-m", "core"]
    return subprocess.Popen(
        [*launch, "trajectory", "train", "--out", str(out), *SMALL, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What it said on stderr; it ends by itself within five times what it needs on a busy machine."""
    with process:
        try:
            _, errors = process.communicate(timeout=250)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, errors
    return errors


def stopped_at(process: subprocess.Popen[str], wanted: Path, number: int) -> None:
    """Wait until a file is there, and send a signal to the whole group (SIGKILL) or the command alone."""
    until = time.monotonic() + 200
    while not wanted.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert wanted.exists(), process.communicate()[1]
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def left(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, object], list[str]]:
    """Weights, what their card says, and the figures of every validation."""
    tensors, card = load(out / "model.safetensors")
    rows = [line.rsplit(",", 1)[0] for line in (out / "metrics.csv").read_text().splitlines()]
    return tensors, card.extra, rows


def same(a: Path, b: Path) -> bool:
    (tensors, extra, rows), (others, other_extra, other_rows) = left(a), left(b)
    return (
        tensors.keys() == others.keys()
        and all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
        and (extra, rows) == (other_extra, other_rows)
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    ended(command(out), 0)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_asked_to_stop_says_what_it_kept_and_goes_on(
    tmp_path: Path, alone: Path, number: int, code: int
) -> None:
    process = command(tmp_path / "run")
    stopped_at(process, tmp_path / "run" / "1-flight" / "last" / "state.pt", number)
    assert "stopped after step" in ended(process, code)
    ended(command(tmp_path / "run", "--resume"), 0)
    assert same(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_like_one_and_calibrate_once(tmp_path: Path) -> None:
    ended(command(tmp_path / "run", processes=2), 0)
    _, extra, rows = left(tmp_path / "run")
    assert set(extra) == {"calibration", "parent"}
    assert [row.split(",")[0] for row in rows] == ["stage", *["1-flight"] * 3, *["2-spread"] * 2]
    assert "2 processes" in (tmp_path / "run" / "card.md").read_text()

    for part, number in (
        ("1-flight", signal.SIGKILL),
        ("1-flight", signal.SIGTERM),
        ("2-spread", signal.SIGKILL),
    ):
        out = tmp_path / f"{part} {number}"
        process = command(out, processes=2)
        stopped_at(process, out / part / "last" / "state.pt", number)
        process.communicate(timeout=200)
        assert process.returncode != 0
        ended(command(out, "--resume", processes=2), 0)
        assert same(out, tmp_path / "run")
