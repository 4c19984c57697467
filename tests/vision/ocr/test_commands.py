"""Commands as a person types them: results on stdout, one sentence and code 2 for bad input."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from core.cli import run_app
from vision.ocr.cli import app
from vision.ocr.simulate import write_set


def run(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    error = f"{type(done.exception).__name__}: {done.exception}" if done.exception else ""
    return done.exit_code, done.stdout, done.stderr + error


@pytest.fixture
def images(tmp_path: Path, scribble: np.ndarray) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(scribble).save(folder / "a.png")
    Image.fromarray(scribble).save(folder / "deep" / "b.jpg")
    return folder


def test_folders_mirror_and_a_bad_image_does_not_stop_them(
    images: Path, untrained: dict[str, Path], tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    code, _, said = run("read", images, "--weights", untrained["lines"], "-o", out, "--format", "json")
    assert code == 2
    assert "broken.png" in said
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.json")) == ["a.json", "deep/b.json"]
    page = json.loads((out / "a.json").read_text())["pages"][0]
    (line,) = page["lines"]
    assert 0 <= line["confidence"] <= 1
    assert "".join(char["c"] for char in line["chars"]) == line["text"]


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "alto", "page", "hocr"])
def test_every_format_is_written(form: str, images: Path, untrained: dict[str, Path]) -> None:
    code, out, _ = run("read", images / "a.png", "--weights", untrained["lines"], "--format", form)
    assert code == 0
    assert out.endswith("\n")


def test_rules_are_kept(images: Path, untrained: dict[str, Path], tmp_path: Path) -> None:
    digits = ["read", images / "a.png", "--task", "digits", "--weights", untrained["digits"]]
    assert len(run(*digits, "--digits", 5)[1].strip()) == 5
    assert run(*digits, "--regex", "1(2|3)4")[1].strip() in ("124", "134")
    choices = tmp_path / "choices"
    choices.write_text("77\n1234\n")
    assert run(*digits, "--choices", choices)[1].strip() in ("77", "1234")
    assert set(run(*digits, "--allow", "45", "--beam", 4)[1].strip()) <= {"4", "5"}


def test_a_page_with_lines_beside_it_keeps_them(
    images: Path, untrained: dict[str, Path], scribble: np.ndarray
) -> None:
    h, w = scribble.shape
    line = f'<TextLine HPOS="0" VPOS="5" WIDTH="{w - 1}" HEIGHT="40"/>'
    (images / "a.xml").write_text(f'<alto><Page WIDTH="{w}" HEIGHT="{h}">{line}</Page></alto>')
    words = ["read", images / "a.png", "--task", "page", "--weights", untrained["lines"], "--format", "json"]
    code, out, said = run(*words)
    assert code == 0
    assert "1 lines are taken from a.xml" in said
    assert len(json.loads(out)["pages"][0]["lines"]) == 1
    (images / "a.xml").write_text(f'<alto><Page WIDTH="9" HEIGHT="{h}">{line}</Page></alto>')
    assert "image of 9 x" in run(*words)[2]


def test_evaluate_counts_every_row(tmp_path: Path, untrained: dict[str, Path]) -> None:
    index = write_set("digits", tmp_path, 6, seed=3)
    rows = index.read_text().splitlines()
    index.write_text("\n".join([*rows, "missing.png,12", "00000.png,12a"]) + "\n")
    report = tmp_path / "report.json"
    code, out, _ = run("evaluate", "digits", index, "--weights", untrained["digits"], "--json", report)
    assert code == 0
    assert "CER" in out
    found = json.loads(report.read_text())
    assert found["n"] == 8
    assert [item["image"] for item in found["items"]][-2:] == ["missing.png", "00000.png"]
    assert "missing.png" in found["items"][6]["error"]
    assert found["items"][6]["text"] == ""
    assert set(found["baselines"]["greedy"]) >= {"cer", "string_accuracy"}
    assert set(found["model"]) >= {"string_accuracy", "cer", "wer", "ece", "cer_low", "cer_high"}


def test_evaluate_page_gives_recall_and_cer(tmp_path: Path, untrained: dict[str, Path]) -> None:
    from vision.ocr.formats import written
    from vision.ocr.page import find_page
    from vision.ocr.synth.writing import letter

    grey, _ = letter(0, 3)
    Image.fromarray(grey).save(tmp_path / "p.png")
    page = find_page(grey, "p.png")
    lines = tuple(type(line)(**{**vars(line), "text": "abc"}) for line in page.lines)
    truth = type(page)(page.image, page.width_px, page.height_px, lines)
    (tmp_path / "p.xml").write_text(written(truth, "alto"))
    report = tmp_path / "r.json"
    code, out, _ = run(
        "evaluate", "page", tmp_path / "p.xml", "--weights", untrained["lines"], "--json", report
    )
    assert code == 0
    found = json.loads(report.read_text())
    assert found["model"]["line_recall"] == 1.0
    assert found["n"] == len(lines)
    assert "recall 100" in out


BAD = {
    "no file": (["read", "nowhere.png"], "there is no such file"),
    "no task": (["read", "x.png", "--task", "poems"], "no task 'poems'"),
    "no format": (["read", "x.png", "--format", "docx"], "no format 'docx'"),
    "wrong weights": (["read", "IMAGE", "--task", "digits", "--weights", "LINES"], "weights for 'ocr lines'"),
    "no index": (["evaluate", "digits", "nowhere.csv", "--weights", "DIGITS"], "nowhere.csv"),
    "bad expression": (["read", "IMAGE", "--weights", "LINES", "--regex", "(a"], "cannot be read"),
    "impossible": (["read", "IMAGE", "--weights", "LINES", "--regex", "Z9"], "no text of this alphabet"),
    "unknown allowed": (["read", "IMAGE", "--weights", "LINES", "--allow", "ΩΨ"], "does not know"),
    "two rules": (
        ["read", "IMAGE", "--weights", "LINES", "--regex", "a", "--digits", "3"],
        "exclude each other",
    ),
    "no setting": (["train", "lines", "--set", "model.hiden=3"], "no setting"),
    "no training data": (["train", "lines", "nowhere.csv"], "nowhere.csv"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_one_sentence(name: str, images: Path, untrained: dict[str, Path]) -> None:
    words, expected = BAD[name]
    places = {"IMAGE": images / "a.png", "LINES": untrained["lines"], "DIGITS": untrained["digits"]}
    code, out, said = run(*[places.get(word, word) for word in words])
    assert code != 0
    assert expected in said
    assert "Traceback" not in out + said


def test_the_word_is_signed_in(capsys: pytest.CaptureFixture[str]) -> None:
    from core.domains import domain

    assert domain("ocr").heading == "Handwriting"
    assert callable(run_app)


def test_a_kraken_file_reads_lines(images: Path) -> None:
    from tests.golden import ROOT

    model = ROOT / "ocr" / "kraken_coreml.mlmodel"
    code, out, said = run("read", images / "a.png", "--weights", model, "--format", "json")
    assert code == 0
    (line,) = json.loads(out)["pages"][0]["lines"]
    assert "".join(char["c"] for char in line["chars"]) == line["text"]
    assert "older extractor" in said or said == ""
    assert "best labels" in run("read", images / "a.png", "--weights", model, "--allow", "ab")[2]


def test_convert_and_character_models(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        '<alto><Page WIDTH="9" HEIGHT="9"><TextLine HPOS="1" VPOS="1" WIDTH="5" HEIGHT="3">'
        '<String CONTENT="abc"/></TextLine></Page></alto>'
    )
    assert run("convert", tmp_path / "a.xml", "--format", "text", "-o", tmp_path / "a.txt")[0] == 0
    assert (tmp_path / "a.txt").read_text() == "abc\n"
    for name in ("m.npz", "m.arpa"):
        assert run("lm", "train", tmp_path / "a.txt", "-o", tmp_path / name, "--order", 3)[0] == 0
        code, out, _ = run("lm", "score", tmp_path / name, tmp_path / "a.txt")
        assert code == 0
        assert 1 < float(out) < 10
    assert "no format" in run("convert", tmp_path / "a.xml", "--format", "docx", "-o", tmp_path / "b")[2]


def test_segment_and_align(images: Path, untrained: dict[str, Path], tmp_path: Path) -> None:
    assert run("segment", images, "-o", tmp_path / "out", "--format", "page")[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.xml")) == ["a.xml", "b.xml"]
    code, out, _ = run("align", images / "a.png", "ab cé", "--weights", untrained["lines"], "--json", "-")
    assert code == 0
    chars = json.loads(out)["chars"]
    assert "".join(char["c"] for char in chars) == "ab cé"
    assert all(a["x0_px"] <= b["x0_px"] for a, b in pairwise(chars))
    assert "'z'" in run("align", images / "a.png", "z", "--weights", untrained["lines"])[2]
