"""The command as a person uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from core import cli
from core.domains import DOMAINS, VERBS, requirements, usable
from core.errors import DataError, WorkError
from tests.terminal import Terminal


def test_help_lists_domains_without_loading_torch() -> None:
    code = (
        "import sys\nsys.argv = ['recurra', '--help']\nfrom core.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'gradio', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=200)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.name == "core"


def test_doctor_reports_what_the_package_asks_for(recurra: Terminal) -> None:
    code, out, _ = recurra("doctor", "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert found["packages"]["torch"]
    assert found["problems"] == []
    assert set(found["extras"]) >= {"demos", "export", "ulog", "mavlink"}
    assert "dev" not in found["extras"]
    asked = {line.split(";")[0].split(">")[0] for line in requirements() if 'extra == "demos"' in line}
    assert set(found["extras"]["demos"]["packages"]) == asked
    assert {row["name"] for row in found["signed_in"]} >= set(usable(DOMAINS))
    assert [row["error"] for row in found["signed_in"] if row["package"] == "recurra" and row["error"]] == []


def test_doctor_names_what_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    from core import doctor

    lines = ["numpy>=99", "nothing-here>=1", 'plotly>=6; extra == "demos"', 'recurra[demos]; extra == "dev"']
    monkeypatch.setattr(doctor, "requirements", lambda: lines)
    found = doctor.examine()
    assert found["problems"][1] == "nothing-here is missing: pip install 'nothing-here>=1'"
    assert found["problems"][0].endswith(": pip install 'numpy>=99'")
    assert list(found["extras"]) == ["demos"]
    assert doctor.lines(found)[-1].startswith("Not ready")


def test_units_are_checked_and_compared(recurra: Terminal) -> None:
    code, said, _ = recurra("units", "--check", "core.units.gated.mgu:MGU", "--json", "-")
    assert code == 0
    assert len(json.loads(said)["kept"]) > 30
    code, _, error = recurra("units", "--check", "core.nothing:MGU")
    assert code == 2
    assert "core.nothing" in error
    rows = json.loads(recurra("units", "mgu", "--compare", "--json", "-")[1])["units"]
    assert [row["name"] for row in rows] == ["mgu"]
    assert rows[0]["state_bytes"] == 64 * 4
    assert rows[0]["step_us"] > 0


def test_units_lists_and_describes(recurra: Terminal) -> None:
    listed = json.loads(recurra("units", "--json", "-")[1])["units"]
    gru = next(unit for unit in listed if unit["name"] == "gru")
    assert gru["parameters"] == 2 * 3 * 64 * 64 + 2 * 3 * 64
    assert gru["state"] == 64
    assert gru["from"] == "recurra"
    assert "h_t = " in recurra("units", "gru")[1]


def test_models_show_what_their_cards_tell(recurra: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import weights

    row = {"name": "a", "task": "ocr", "unit": "lstm", "parameters": 5, "bytes": 2048, "sha256": "0"}
    row |= {"score": "cer 0.1", "data": "lines", "terms": "CC0", "language": "French", "period": "1700"}
    monkeypatch.setattr(weights, "bundled", lambda: [row])
    _, out, _ = recurra("models")
    assert out.splitlines()[0] == "a  (ocr, lstm, 5 parameters, 2 KB)"
    assert "    language  French" in out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["units", "gruu"], "ConfigError: no unit 'gruu'; did you mean gru"),
        (["bench", "nothing"], "ConfigError: nothing to measure called 'nothing'"),
        (["doctor", "--json", "/nowhere/x.json"], "cannot be written"),
        (["models", "--json", ""], "the name of the file to write is empty"),
        (["demo", "tea"], "ConfigError: no demo called 'tea'"),
    ],
)
def test_a_wrong_word_is_one_line_and_code_2(recurra: Terminal, words: list[str], message: str) -> None:
    code, out, err = recurra(*words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_unknown_commands_exit_with_2(recurra: Terminal) -> None:
    assert recurra("fly")[0] == 2
    assert recurra()[0] == 2


@pytest.mark.parametrize(
    ("error", "code"), [(DataError("x"), 2), (WorkError("x"), 1), (KeyboardInterrupt(), 130), (None, 0)]
)
def test_exit_codes_tell_bad_input_from_failed_work(
    error: BaseException | None, code: int, recurra: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.command()
    def work() -> None:
        if error is not None:
            raise error

    recurra.entry = lambda: cli.run_app(app)
    assert recurra()[0] == code


def test_the_cores_own_words_are_known_to_the_table() -> None:
    assert {command.callback.__name__ for command in cli.app.registered_commands if command.callback} == set(
        VERBS
    )


def test_debug_shows_the_traceback(recurra: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_DEBUG", "")
    with pytest.raises(cli.RecurraError, match="no unit"):
        recurra("--debug", "units", "gruu")


def test_an_interpreter_runs_it_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "core", "units", "gruu"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: no unit 'gruu'")
