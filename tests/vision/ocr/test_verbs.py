"""What every command offers, and that the results do not depend on how many processes give them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.vision.ocr.test_commands import run
from vision.ocr.cli import app
from vision.ocr.formats import read_page_file, written
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


def test_convert_does_not_depend_on_the_processes(pages: Path, tmp_path: Path) -> None:
    for seed in range(2):
        page = segment(pages / "images" / f"{seed}.png")
        (pages / f"{seed}.xml").write_text(written(page, "alto"))
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        code, said, _ = run("convert", pages, "--format", "json", "-o", out, "--jobs", jobs, "--json", "-")
        assert code == 0
        assert [item["lines"] for item in json.loads(said)["items"]] == [4, 4]
    assert (tmp_path / "1" / "0.json").read_text() == (tmp_path / "2" / "0.json").read_text()
    assert len(read_page_file(tmp_path / "2" / "1.json").lines) == 4


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
    assert run(*words, "--jobs", 2)[1] == out


def test_a_page_whose_image_is_missing_loses_its_lines(
    pages: Path, tmp_path: Path, untrained: dict[str, Path]
) -> None:
    files = []
    for seed in range(2):
        page = segment(pages / "images" / f"{seed}.png")
        lines = tuple(type(line)(**{**vars(line), "text": "abc"}) for line in page.lines)
        files.append(pages / "images" / f"{seed}.xml")
        files[-1].write_text(written(type(page)(page.image, page.width_px, page.height_px, lines), "page"))
    (pages / "images" / "1.png").unlink()
    words = ["evaluate", "page", *files, "--weights", untrained["lines"], "--json"]
    assert run(*words, tmp_path / "one.json")[0] == 0
    assert run(*words, tmp_path / "two.json", "--jobs", 2)[0] == 0
    report = json.loads((tmp_path / "one.json").read_text())
    assert report == json.loads((tmp_path / "two.json").read_text())
    assert report["n"] == 8
    assert report["model"]["line_recall"] == 0.5
    assert report["model"]["line_precision"] == 1.0
    assert report["items"][1]["errors"] == 12
    assert "1.png" in report["items"][1]["error"]
