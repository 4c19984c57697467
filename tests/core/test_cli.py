"""The command as a person uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "core"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=120)


def test_help_lists_domains_without_loading_torch() -> None:
    code = (
        "import sys\nsys.argv = ['recurra', '--help']\nfrom core.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'gradio', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "trajectory" in done.stdout
    assert "doctor" in done.stdout


def test_the_three_torches_import_together() -> None:
    import torch
    import torchaudio
    import torchvision

    assert torchaudio.__version__
    assert torchvision.__version__
    assert torch.__version__


def test_packages_carry_their_names() -> None:
    code = "import core, apps, recsys, speech, vision, demos; print(core.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.name == "core"


def test_doctor_reports_versions_as_json() -> None:
    done = run("doctor", "--json", "-")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["packages"]["torch"]
    assert found["problems"] == []
    assert set(found["extras"]) >= {"demos", "export", "ulog", "mavlink"}


def test_units_lists_and_describes() -> None:
    listed = json.loads(run("units", "--json", "-").stdout)["units"]
    gru = next(unit for unit in listed if unit["name"] == "gru")
    assert gru["parameters"] == 2 * 3 * 64 * 64 + 2 * 3 * 64
    assert gru["state"] == 64
    assert "h_t = " in run("units", "gru").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["units", "gruu"], "ConfigError: no unit 'gruu'; did you mean gru"),
        (["bench", "nothing"], "ConfigError: nothing to measure called 'nothing'"),
        (["doctor", "--json", "/nowhere/x.json"], "cannot be written"),
    ],
)
def test_a_wrong_word_is_one_line_and_code_2(words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_commands_exit_with_2() -> None:
    assert run("fly").returncode == 2
    assert run().returncode == 2


def test_debug_shows_the_traceback() -> None:
    done = run("--debug", "units", "gruu")
    assert "Traceback" in done.stderr
