"""How runs end when somebody or something ends them: a sentence, the work kept, and nobody waits for ever."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Started = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Started]:
    """Begins a lasting run; all of them are gone after the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(out: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.training.lasting", str(out), *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heeding,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def heeding() -> None:
    """In the child: signals mean what they do in a terminal, however the tests were started."""
    for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)


def rows(out: Path) -> int:
    path = out / "metrics.csv"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_rows(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 200
    while rows(out) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def pair(start: Started, out: Path) -> list[subprocess.Popen[str]]:
    """Two processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(out, RANK=str(rank), LOCAL_RANK=str(rank), **about) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_wish_to_stop_keeps_the_work_and_says_how_to_go_on(
    wish: signal.Signals, start: Started, tmp_path: Path
) -> None:
    run = start(tmp_path / "a")
    wait_for_rows(tmp_path / "a", 3, run)
    run.send_signal(wish)
    _, told = run.communicate(timeout=200)
    assert run.returncode == 128 + wish
    assert "go on with --resume" in told
    assert "Traceback" not in told
    kept = rows(tmp_path / "a")
    again = start(tmp_path / "a", "--resume")
    wait_for_rows(tmp_path / "a", kept + 2, again)


@pytest.mark.slow
def test_a_second_run_into_one_folder_is_refused_and_a_dead_owner_is_not(
    start: Started, tmp_path: Path
) -> None:
    first = start(tmp_path / "a")
    wait_for_rows(tmp_path / "a", 2, first)
    second = start(tmp_path / "a", "--resume")
    _, told = second.communicate(timeout=200)
    assert second.returncode == 2
    assert f"pid {first.pid} on {socket.gethostname()}" in told
    first.kill()
    first.wait()
    third = start(tmp_path / "a", "--resume")
    wait_for_rows(tmp_path / "a", rows(tmp_path / "a") + 2, third)
    third.send_signal(signal.SIGTERM)
    third.communicate(timeout=200)
    assert not [path for path in (tmp_path / "a").rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "wish"), [(1, "SIGKILL"), (1, "SIGSTOP"), (0, "SIGSTOP"), (0, "SIGKILL")])
def test_a_process_that_is_lost_ends_the_others_with_a_sentence(
    lost: int, wish: str, start: Started, tmp_path: Path
) -> None:
    both = pair(start, tmp_path / "a")
    wait_for_rows(tmp_path / "a", 3, both[0])
    both[lost].send_signal(getattr(signal, wish))
    _, told = both[1 - lost].communicate(timeout=200)
    assert both[1 - lost].returncode == 1, told
    assert "Traceback" not in told
    assert "--resume" in told


@pytest.mark.slow
def test_a_long_validation_of_the_first_process_is_no_loss(start: Started, tmp_path: Path) -> None:
    both = pair(start, tmp_path / "validation")
    told = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told


@pytest.mark.slow
def test_a_full_disk_in_training_is_a_sentence_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "sys.argv = ['x', sys.argv[1]]\n"
        "import runpy\n"
        "runpy.run_module('tests.core.training.lasting', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
