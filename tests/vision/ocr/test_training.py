"""Training and fine-tuning: guards, alphabets, new rows, what stands in the card at the end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ConfigError, DataError
from core.weights import load
from tests.vision.ocr.test_commands import run
from vision.ocr.codec import Codec
from vision.ocr.data import read_samples
from vision.ocr.finetune import changes, fitted_codec, moved_rows, parent_of
from vision.ocr.formats import written
from vision.ocr.guard import Guard
from vision.ocr.page import find_page
from vision.ocr.sample import Sample
from vision.ocr.synth.writing import letter

TINY = ["--set", "data.generated=24", "--set", "pixels=4000", "--set", "model.channels=[4,6,8,8]"]
TINY += ["--set", "model.hidden=8", "--set", "line.height=32", "--set", "loop.epochs=1"]


def pairs(folder: Path, texts: list[str]) -> Path:
    """A folder of pictures with .gt.txt."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number, text in enumerate(texts):
        grey = np.full((40, 40 + 14 * len(text)), 230, np.uint8)
        for x in range(20, 20 + 12 * len(text), 6):
            grey[10 : 22 + int(rng.integers(0, 12)), x : x + 3] = 20
        Image.fromarray(grey).save(folder / f"{number}.png")
        (folder / f"{number}.gt.txt").write_text(f"\ufeff{text}\n", encoding="utf-8")
    return folder


def test_an_alphabet_follows_the_mode() -> None:
    old = Codec(("b", "a", " "))
    samples = [Sample(Path("x"), "a cc")]
    assert fitted_codec(old, samples, "keep") == old
    assert fitted_codec(old, samples, "add").symbols == ("b", "a", " ", "c")
    assert fitted_codec(old, samples, "union").symbols == (" ", "a", "b", "c")
    assert fitted_codec(old, samples, "new").symbols == (" ", "a", "c")
    told = changes(old, Codec((" ", "a", "c")), samples)
    assert told == ["1 characters added: 'c' 2", "1 characters dropped: 'b' 0"]
    with pytest.raises(ConfigError, match="one of add"):
        fitted_codec(old, samples, "some")


def test_outputs_move_with_their_characters(untrained: dict[str, Path]) -> None:
    tensors, _, config, old = parent_of(untrained["lines"])
    new = Codec(("z", *reversed(old.symbols)))
    model, fresh = moved_rows(tensors, config, old, new, 0)
    assert fresh == [1]
    weight = model.state_dict()["head.weight"]
    for symbol, label in old.labels.items():
        torch.testing.assert_close(weight[new.labels[symbol]], tensors["head.weight"][label])
    torch.testing.assert_close(weight[0], tensors["head.weight"][0])


def test_fine_tuning_warms_up_new_rows_and_reads(tmp_path: Path, untrained: dict[str, Path]) -> None:
    data = pairs(tmp_path / "mine", ["abc", "cab", "acé", "zbac", "cz", "azbc", "bca", "cba", "cca", "ab"])
    out = tmp_path / "run"
    words = ["fine-tune", data, "--weights", untrained["lines"], "--out", out, "--set", "loop.epochs=2"]
    code, _, heard = run(*words, "--set", "pixels=2000", "--freeze", "cnn")
    assert code == 0, heard
    assert "1 characters added: 'z'" in heard
    before, after = load(untrained["lines"])[0], load(out / "model.safetensors")
    assert after[1].extra["codec"]["symbols"][-1] == "z"
    assert set(after[1].extra["calibration"]) >= {"char_slope", "line_bias"}
    torch.testing.assert_close(after[0]["stem.weight"], before["stem.weight"])
    warm = load(out / "1-rows" / "model.safetensors")[0]
    torch.testing.assert_close(warm["head.weight"][:-1], before["head.weight"])
    assert run("read", data / "0.png", "--weights", out)[0] == 0


def test_training_names_lines_that_cannot_be_learned(tmp_path: Path) -> None:
    data = pairs(tmp_path / "d", ["abc", "abd", "acd", "bcd", "aab", "ccd"])
    Image.fromarray(np.full((40, 30), 200, np.uint8)).save(data / "5.png")
    (data / "5.gt.txt").write_text("a" * 60)
    code, _, heard = run("train", "lines", data, "--out", tmp_path / "run", *TINY, "--seed", 1)
    assert code == 0, heard
    assert heard.count("have more characters than frames") == 2  # before the first step and at the end
    assert "5.png" in heard
    assert "calibration" in load(tmp_path / "run" / "model.safetensors")[1].extra


@pytest.mark.parametrize("name", ["seq2seq", "vgsl"])
def test_other_networks_train_and_read(name: str, tmp_path: Path) -> None:
    data = pairs(tmp_path / "d", ["abc", "abd", "acd", "bcd", "aab", "ccd"])
    out = tmp_path / "run"
    more = ["--set", f"model.name={name}", "--set", "data.generated=0"]
    code, _, heard = run("train", "lines", data, "--out", out, *TINY, *more)
    assert code == 0, heard
    assert run("read", data / "0.png", "--weights", out, "--lm", "none")[0] == 0
    if name == "vgsl":
        code, _, heard = run("export", "-o", tmp_path / "k.safetensors", "--weights", out)
        assert code == 0, heard
        assert run("read", data / "0.png", "--weights", tmp_path / "k.safetensors")[0] == 0


def test_silent_failures_are_told_once() -> None:
    told: list[str] = []
    guard = Guard(20_000, told.append, recovers=True)
    guard.after_step(None, 1999)
    guard.judge({"cer": 1.0, "blank": 1.0})
    assert told == []
    guard.after_step(None, 2000)
    guard.judge({"cer": 1.0, "blank": 1.0})
    assert "read as nothing" in told[0]
    assert torch.isnan(guard.pulled(torch.ones(())))
    assert guard.pulled(torch.ones(())) == 1
    guard.judge({"cer": 0.3, "blank": 0.0})
    guard.judge({"cer": 0.7, "blank": 0.0})
    assert "went from 0.300 to 0.700" in told[1]


def test_pages_with_their_xml_are_training_lines(tmp_path: Path) -> None:
    grey, _ = letter(0, 3)
    page = find_page(grey, "elsewhere/p.png")
    lines = tuple(type(line)(**{**vars(line), "text": f"line {i}"}) for i, line in enumerate(page.lines))
    page = type(page)(page.image, page.width_px, page.height_px, lines)
    for form in ("alto", "page"):
        (tmp_path / f"p.{form}.xml").write_text(written(page, form))
    Image.fromarray(grey).save(tmp_path / "p.png")
    found = read_samples([tmp_path])
    assert [sample.text for sample in found] == [line.text for line in lines] * 2
    assert found[0].grey().shape[1] > 100
    (tmp_path / "p.png").unlink()
    with pytest.raises(DataError, match="is missing"):
        read_samples([tmp_path / "p.page.xml"])


def test_tables_of_iam_and_pylaia(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    for name in ("a01-000u-00", "a01-000u-01"):
        Image.new("L", (50, 20), 255).save(tmp_path / "lines" / f"{name}.png")
    rows = [f"{name} ok 154 19 408 746 1661 89 A|move|to" for name in ("a01-000u-00", "a01-000u-01", "gone")]
    (tmp_path / "lines.txt").write_text("# comment\n" + "\n".join(rows) + "\n")
    found = read_samples([tmp_path])
    assert [(s.text, s.document) for s in found] == [("A move to", "a01-000u")] * 2
    (tmp_path / "t.txt").write_text("a01-000u-00 A <space> b c\n")
    assert read_samples([tmp_path / "t.txt"])[0].text == "A bc"
    form = '<form id="a01-000u"><line id="a01-000u-00" text="say &amp;quot;no&amp;quot;"/></form>'
    (tmp_path / "f.xml").write_text(form)
    assert read_samples([tmp_path / "f.xml"])[0].text == 'say "no"'
