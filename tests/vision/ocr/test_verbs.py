"""What every command offers, and that the results do not depend on how many processes give them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from core.weights import Card, save
from tests.vision.ocr.test_commands import run
from vision.ocr.cli import app
from vision.ocr.formats import read_page_file, written
from vision.ocr.models.marks import SPEC, Marks
from vision.ocr.segmentation.finder import segment
from vision.ocr.synth.pages import two_columns

WORKING = {  # verbs that work on many inputs or on a network
    "read": ("--weights", "--jobs", "--device", "--threads", "--seed", "--json"),
    "segment": ("--weights", "--jobs", "--device", "--threads", "--seed", "--json"),
    "align": ("--weights", "--jobs", "--device", "--threads", "--seed", "--json"),
    "evaluate": ("--weights", "--jobs", "--device", "--threads", "--seed", "--json"),
    "convert": ("--jobs", "--threads", "--seed", "--json"),
    "decode": ("--weights", "--threads", "--seed", "--json"),
    "train": ("--device", "--threads", "--seed", "--json"),
    "fine-tune": ("--weights", "--device", "--threads", "--seed", "--json"),
    "study": ("--device", "--threads", "--seed", "--json"),
    "export": ("--weights", "--threads", "--seed", "--json"),
    "simulate": ("--seed", "--json"),
    "import": ("--json",),
    "models": ("--json",),
    "lm train": ("--json",),
    "lm score": ("--json",),
}


@pytest.mark.parametrize("verb", WORKING)
def test_a_verb_has_its_options_and_ends_with_an_example(verb: str) -> None:
    said = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200"}).stdout
    assert set(WORKING[verb]) <= set(re.findall(r"--[a-z-]+", said))
    assert f"Example: recurra ocr {verb} " in " ".join(said.split())


def test_every_verb_is_in_the_table() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == {verb for verb in WORKING if not verb.startswith("lm ")}


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Two pages and a table that names them."""
    folder = tmp_path / "pages"
    (folder / "images").mkdir(parents=True)
    for seed in range(2):
        Image.fromarray(two_columns(seed, 2)[0]).save(folder / "images" / f"{seed}.png")
    (folder / "index.csv").write_bytes(b"\xef\xbb\xbfimage,who\r\n0.png,a\r\n1.png,b\r\n")
    return folder


def test_segment_takes_a_table_and_processes_and_reports(pages: Path, tmp_path: Path) -> None:
    (pages / "index.csv").write_text("image\n0.png\n1.png\nmissing.png\n")
    words = ["segment", pages / "index.csv", "--format", "alto", "--quiet"]
    code, _, said = run(*words, "-o", tmp_path / "one", "--json", tmp_path / "r.json")
    assert code == 2
    assert "missing.png: there is no such file" in said
    assert run(*words, "-o", tmp_path / "two", "--jobs", 2, "--threads", 1, "--seed", 3)[0] == 2
    for name in ("0.xml", "1.xml"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["n"], report["failed"]) == (3, 1)
    assert [item["lines"] for item in report["items"][:2]] == [4, 4]
    assert "missing.png" in report["items"][2]["input"]


def test_read_takes_a_table_and_reports_texts(
    pages: Path, tmp_path: Path, untrained: dict[str, Path]
) -> None:
    words = ["read", pages / "index.csv", "--task", "page", "--weights", untrained["lines"], "--rotate", 0]
    code, _, _ = run(*words, "-o", tmp_path / "out", "--format", "json", "--json", tmp_path / "r.json")
    assert code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    for item in report["items"]:
        (page,) = json.loads(Path(item["output"]).read_text())["pages"]
        texts = [line["text"] for line in page["lines"]]
        assert item["lines"] == len(texts) == 4
        assert item.get("text", "\n" * 3) == "\n".join(texts)
    assert "no column image" in run("read", write(tmp_path / "t.csv", "picture\na.png\n"))[2]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def with_truth(pages: Path, text: str) -> list[Path]:
    """XML of the two pages beside their images, every line with one text."""
    files = []
    for seed in range(2):
        page = segment(pages / "images" / f"{seed}.png")
        lines = tuple(type(line)(**{**vars(line), "text": text}) for line in page.lines)
        files.append(pages / "images" / f"{seed}.xml")
        files[-1].write_text(written(type(page)(page.image, page.width_px, page.height_px, lines), "page"))
    return files


def test_convert_reports_what_it_wrote(pages: Path, tmp_path: Path) -> None:
    words = ["convert", *with_truth(pages, "ab"), "--format", "json", "-o", tmp_path / "out", "--json", "-"]
    code, said, _ = run(*words)
    assert code == 0
    assert [(item["lines"], item["text"]) for item in json.loads(said)["items"]] == [
        (4, "ab\n" * 3 + "ab")
    ] * 2
    assert len(read_page_file(tmp_path / "out" / "1.json").lines) == 4


@pytest.mark.slow
def test_processes_change_nothing(
    pages: Path, tmp_path: Path, scribble: np.ndarray, untrained: dict[str, Path]
) -> None:
    truth = with_truth(pages, "abc")
    Image.fromarray(scribble).save(tmp_path / "a.png")
    (tmp_path / "i.csv").write_text("image,text\na.png,abc\na.png,dé\n")
    weights = ["--weights", untrained["lines"]]
    for words in (
        ["evaluate", "page", *truth, *weights, "--json", "-"],
        ["align", tmp_path / "i.csv", *weights, "--json", "-"],
        ["convert", *truth, "--format", "json", "-o", tmp_path / "out", "--json", "-"],
    ):
        alone = run(*words)
        assert alone[0] == 0
        assert run(*words, "--jobs", 2)[:2] == alone[:2]


def test_align_takes_a_table(scribble: np.ndarray, untrained: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(scribble).save(tmp_path / f"{name}.png")
    (tmp_path / "i.csv").write_text("image,text\na.png,abc\nb.png,dé\nb.png,x\n")
    words = ["align", tmp_path / "i.csv", "--weights", untrained["lines"], "--json", "-"]
    code, out, _ = run(*words)
    assert code == 2
    items = json.loads(out)["items"]
    assert ["".join(c["c"] for c in item.get("chars", [])) for item in items] == ["abc", "dé", ""]
    assert "'x'" in items[2]["error"]


def test_a_page_whose_image_is_missing_loses_its_lines(
    pages: Path, tmp_path: Path, untrained: dict[str, Path]
) -> None:
    files = with_truth(pages, "abc")
    (pages / "images" / "1.png").unlink()
    code, out, _ = run("evaluate", "page", *files, "--weights", untrained["lines"], "--json", "-")
    assert code == 0
    report = json.loads(out)
    assert report["n"] == 8
    assert report["model"]["line_recall"] == 0.5
    assert report["model"]["line_precision"] == 1.0
    assert report["items"][1]["errors"] == 12
    assert "1.png" in report["items"][1]["error"]


def test_a_report_has_every_key_whatever_else_the_table_holds(
    scribble: np.ndarray, untrained: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for name, grey in (("a", scribble), ("b", 255 - scribble[:, ::2]), ("c", np.full((9, 4), 90, np.uint8))):
        Image.fromarray(grey).save(tmp_path / "images" / f"{name}.png")
    rows = ["id;text;image;corpus;split", "1;abc;a.png;wills;odd", "2;;b.png;;", "3;d Ω;c.png;wills;"]
    (tmp_path / "i.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    words = ["evaluate", "lines", tmp_path / "i.csv", "--weights", untrained["lines"], "--json", "-"]
    code, out, _ = run(*words)
    assert code == 0
    report = json.loads(out)
    assert set(report) == {"n", "model", "baselines", "groups", "items", "protocol"}
    assert set(report["model"]) >= {"string_accuracy", "cer", "wer", "ece"}
    assert set(report["baselines"]) == {"greedy", "without lm"}
    assert all({"cer", "string_accuracy"} <= set(figures) for figures in report["baselines"].values())
    assert (report["n"], report["groups"]["wills"]["n"], len(report["groups"])) == (3, 2, 1)
    assert [item["image"] for item in report["items"]] == ["a.png", "b.png", "c.png"]
    assert all(isinstance(item["text"], str) and 0 <= item["confidence"] <= 1 for item in report["items"])
    model = tmp_path / "m.npz"
    (tmp_path / "t.txt").write_text("abc de\nbad cab\n")
    assert run("lm", "train", tmp_path / "t.txt", "-o", model, "--order", 3)[0] == 0
    baselines = json.loads(run(*words, "--lm", model)[1])["baselines"]
    assert set(baselines) == {"greedy", "without lm", "with lm"}
    assert run(*words, "--seed", 4)[0] == 0


def test_pages_are_read_and_scored_with_a_segmenter(
    pages: Path, tmp_path: Path, untrained: dict[str, Path]
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "seg.safetensors"
    save(weights, Marks(), Card("ocr segment", "lstm", "nothing", "none", {}, extra={"vgsl": SPEC}))
    image = pages / "images" / "0.png"
    words = ["--weights", untrained["lines"], "--segmenter", weights]
    code, out, _ = run("read", image, "--task", "page", "--format", "json", "--rotate", 0, *words)
    assert code == 0
    found = segment(image, weights)
    assert len(json.loads(out)["pages"][0]["lines"]) == len(found.lines)
    assert "--segmenter finds lines of pages" in run("read", image, *words)[2]
    truth, _ = with_truth(pages, "ab")
    code, out, _ = run("evaluate", "page", truth, *words, "--json", "-")
    assert code == 0
    assert json.loads(out)["items"][0]["found"] == len(found.lines)
    assert "nowhere.safetensors" in run("evaluate", "page", truth, "--segmenter", "nowhere.safetensors")[2]
