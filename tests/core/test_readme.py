"""The programs of the description run as they stand there, and are short."""

import sys
from pathlib import Path

import pytest

import core

README = Path(core.__file__).with_name("README.md")
LONGEST = 30


def programs() -> list[str]:
    text = README.read_text(encoding="utf-8")
    section = text.split("## Three programs")[1].split("\n## ")[0]
    return [part.split("```")[0] for part in section.split("```python\n")[1:]]


def run(code: str) -> None:
    exec(compile(code, str(README), "exec"), {"__name__": "example"})


def test_there_are_three_and_none_is_long() -> None:
    assert len(programs()) == 3
    for code in programs():
        assert len([line for line in code.splitlines() if line.strip()]) <= LONGEST


def test_letters_are_learned_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    run(programs()[0])
    written = capsys.readouterr().out
    known = "the quick brown fox jumps over the lazy dog. "
    assert sum(word in known.split() for word in written.split()) >= 5


def test_series_are_told_apart_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "example", sys.modules[__name__])
    run(programs()[1])
    first = float(capsys.readouterr().out.split()[-1])
    assert first < 0.3
    run(programs()[1])  # a finished run stays what it is
    assert float(capsys.readouterr().out.split()[-1]) == first


def test_a_forecaster_goes_on_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    errors = []
    for _ in range(2):
        run(programs()[2])
        errors.append(float(capsys.readouterr().out))
    assert errors[1] < errors[0] / 5
