"""What every command offers, and that it takes files, folders, globs and lists where it works on many."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from speech.cli import app
from speech.synth import generated_corpus

WORKING = {
    "enhance": ("--weights", "--device", "--threads", "--seed", "--json", "--resume", "--quiet"),
    "separate": ("--weights", "--device", "--threads", "--seed", "--json", "--resume", "--quiet"),
    "live": ("--weights", "--device", "--threads", "--seed", "--json"),
    "mix": ("--threads", "--seed", "--json"),
    "train": ("--start", "--device", "--threads", "--seed", "--json", "--resume", "--quiet"),
    "fine-tune": ("--device", "--threads", "--seed", "--json", "--resume", "--quiet"),
    "evaluate": ("--weights", "--device", "--threads", "--seed", "--json", "--quiet"),
    "score": ("--threads", "--json", "--quiet"),
    "export": ("--weights", "--threads", "--seed", "--json"),
    "units": ("--device", "--threads", "--seed", "--json", "--resume", "--quiet"),
    "import": ("--json",),
    "index": ("--json",),
    "models": ("--json",),
}
"""`mix`, `index` and `import` use no network; the weights of `fine-tune` are its argument; `score` and what
follows draw nothing; ONNX is written and checked on the CPU."""


@pytest.mark.parametrize("verb", WORKING)
def test_a_verb_has_its_options_and_ends_with_an_example(verb: str) -> None:
    said = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout
    assert set(WORKING[verb]) <= set(re.findall(r"--[a-z-]+", said))
    example = "Example: arecord" if verb == "live" else f"Example: recurra speech {verb}"
    assert example in " ".join(said.split())


def test_every_verb_is_in_the_table() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == set(WORKING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips in folders of their own, and the same with a little noise."""
    root, random = tmp_path_factory.mktemp("score"), np.random.default_rng(0)
    for number, voice in enumerate(generated_corpus(talkers=2, seconds=1.0).speech):
        wave = voice.samples / 32768
        for name, level in (("clean", 0.0), ("noisy", 0.01)):
            place = root / name / f"{number}" / "a.wav"
            place.parent.mkdir(parents=True)
            soundfile.write(place, wave + level * random.standard_normal(len(wave)), 16000)
    return root


def call(*words: Any, stdin: str = "") -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def test_folders_are_scored_file_by_file(folder: Path) -> None:
    pytest.importorskip("pesq")
    result = call("score", folder / "clean", folder / "noisy", "--quiet", "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    alone = [
        json.loads(
            call(
                "score", *(folder / kind / name / "a.wav" for kind in ("clean", "noisy")), "--json", "-"
            ).stdout
        )
        for name in "01"
    ]
    assert report["n"] == 2
    for item, figures in zip(report["items"], alone, strict=True):
        assert {key: item[key] for key in figures} == pytest.approx(figures, nan_ok=True)
    assert report["mean"]["si_sdr"] == pytest.approx(np.mean([part["si_sdr"] for part in alone]))
    (folder / "clean" / "2").mkdir()
    soundfile.write(folder / "clean" / "2" / "a.wav", np.zeros(1600), 16000)
    missing = call("score", folder / "clean", folder / "noisy", "--quiet")
    assert missing.exit_code == 2
    assert "need a folder" in str(call("score", folder / "clean", folder / "noisy/0/a.wav").exception)


@pytest.mark.parametrize("kind", ["folder", "glob", "list"])
def test_many_files_are_enhanced_however_they_are_named(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [folder / "noisy" / name / "a.wav" for name in "01"]
    words = {"folder": [folder / "noisy"], "glob": [folder / "noisy" / "*" / "a.wav"], "list": ["-"]}[kind]
    listed = "".join(f"{name}\n" for name in names[:1])
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    result = call("enhance", *words, "-o", f"{tmp_path}/", "--quiet", "--json", "-", stdin=listed)
    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout)["files"]
    assert len(files) == (1 if kind == "list" else 2)
    assert len(list(tmp_path.rglob("a.wav"))) == len(files)
