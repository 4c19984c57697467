"""The Python names of the package: callable, whichever module was imported first, and they do their work."""

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vision.ocr
from core.ctc.char_lm import train_char_lm
from core.errors import DataError, RecurraError
from vision.ocr import Decoding, align, decode, evaluate, read_line, read_lines, read_page, segment, train
from vision.ocr.answer import Line, Page
from vision.ocr.reader import load_reader
from vision.ocr.recognise import log_probabilities
from vision.ocr.synth.pages import two_columns
from vision.ocr.training import train as train_function

NAMES = ("align", "decode", "evaluate", "read_line", "read_lines", "read_page", "segment", "train")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_callable_after_its_module_was_loaded(name: str) -> None:
    import_module(f"vision.ocr{vision.ocr.PUBLIC[name].partition(':')[0]}")
    assert callable(getattr(vision.ocr, name))


def test_the_package_imports_nothing_heavy() -> None:
    code = "import sys, vision.ocr; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "pil", "array"])
def test_images_come_in_any_form(
    kind: str, scribble: np.ndarray, untrained: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(scribble).save(path)
    image: Any = {
        "path": lambda: path,
        "bytes": path.read_bytes,
        "file": lambda: io.BytesIO(path.read_bytes()),
        "pil": lambda: Image.fromarray(scribble),
        "array": lambda: scribble,
    }[kind]()
    expected = read_line(scribble, untrained["lines"])
    assert read_line(image, untrained["lines"]) == expected


def test_many_lines_are_read_in_their_order(scribble: np.ndarray, untrained: dict[str, Path]) -> None:
    other = scribble[:, 40:200]
    alone = [read_line(grey, untrained["lines"]).text for grey in (scribble, other)]
    assert [line.text for line in read_lines([scribble, other], untrained["lines"])] == alone


def test_a_page_is_segmented_and_read(untrained: dict[str, Path]) -> None:
    grey, placed = two_columns(2, 3)
    found = segment(grey)
    assert isinstance(found, Page)
    assert len(found.lines) == len(placed)
    assert all(line.text == "" and line.polygon and line.baseline for line in found.lines)
    read = read_page(grey, untrained["lines"], rotate=0)
    assert [line.polygon for line in read.lines] == [line.polygon for line in found.lines]
    right = segment(grey, right_to_left=True)
    assert [line.box for line in right.lines] != [line.box for line in found.lines]
    with pytest.raises(DataError, match=r"nothing\.png"):
        segment("nothing.png")


def test_a_known_text_is_laid_along_its_line(scribble: np.ndarray, untrained: dict[str, Path]) -> None:
    line = align(scribble, "abc ", untrained["lines"])
    assert isinstance(line, Line)
    assert line.text == "abc"
    assert [char.text for char in line.chars] == ["a", "b", "c"]
    assert all(a.x1_px <= b.x0_px + 1e-6 for a, b in zip(line.chars, line.chars[1:], strict=False))
    with pytest.raises(DataError, match="'x' in 'axe' is not in the alphabet"):
        align(scribble, "axe", untrained["lines"])


def test_frames_are_decoded_from_logits_and_from_probabilities() -> None:
    p = np.array([[0.1, 0.8, 0.1], [0.7, 0.1, 0.2], [0.1, 0.1, 0.8]])
    ((text, score),) = decode(p, "ab")
    assert text == "ab"
    assert score == pytest.approx(np.log(0.8 * 0.7 * 0.8))
    same, close = decode(np.log(p) + 3.0, ["a", "b"])[0]
    assert same == "ab"
    assert close == pytest.approx(score)
    several = decode(p, "ab", Decoding(alternatives=3))
    assert several[0][0] == "ab"
    assert len({text for text, _ in several}) == 3
    assert decode(p, "ab", Decoding(regex="b+"))[0][0] == "b"
    with pytest.raises(DataError, match="alphabet of 4"):
        decode(p, "abc")
    with pytest.raises(DataError, match=r"\(T, V\)"):
        decode(p[0], "ab")


def test_train_and_evaluate_are_functions(untrained: dict[str, Path], tmp_path: Path) -> None:
    assert train is train_function
    Image.fromarray(np.full((20, 60), 200, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "i.csv").write_text("image,text\na.png,12\nmissing.png,3\n")
    report = evaluate("digits", tmp_path / "i.csv", untrained["digits"])
    assert report["n"] == len(report["items"]) == 2
    assert set(report["model"]) >= {"string_accuracy", "cer", "wer", "ece"}
    assert "missing.png" in report["items"][1]["error"]


def test_evaluate_looks_at_a_line_once_for_all_its_decodings(
    untrained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 60), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "i.csv").write_text("image,text\na.png,ab\n")
    seen = []

    def counting(network: Any, lines: Any, *about: Any) -> Any:
        seen.append(len(lines))
        return log_probabilities(network, lines, *about)

    monkeypatch.setattr("vision.ocr.reader.log_probabilities", counting)
    model = train_char_lm(["ab ba", "abba"], 3)
    report = evaluate("lines", tmp_path / "i.csv", untrained["lines"], decoding=Decoding(lm=model))
    assert seen == [1]
    assert list(report["baselines"]) == ["greedy", "without lm", "with lm"]
    assert report["baselines"]["with lm"]["cer"] == report["model"]["cer"]


def test_a_bundled_character_model_has_a_name(untrained: dict[str, Path]) -> None:
    model = load_reader(untrained["lines"], lm="ocr-6gram").decoding.lm
    assert model is not None
    assert model.order == 6
    assert load_reader(untrained["lines"]).decoding.lm is None
    with pytest.raises(RecurraError, match="ocr-7gram"):
        load_reader(untrained["lines"], lm="ocr-7gram")
