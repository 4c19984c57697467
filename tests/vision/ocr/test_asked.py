"""What a person may ask for beyond the plain reading: words, joined pieces, strictness, limits."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.errors import ConfigError
from tests.vision.ocr.test_commands import run
from vision.ocr.answer import Line
from vision.ocr.codec import Codec
from vision.ocr.decoding import Decoding, labellings, rule_of
from vision.ocr.formats import read_page_file
from vision.ocr.segmentation.joining import joined
from vision.ocr.simulate import write_set
from vision.ocr.synth.pages import two_columns

CODEC = Codec(tuple("abc "))


def frames(text: str, doubt: dict[int, str] | None = None) -> np.ndarray:
    """Log-probabilities of a text, a blank after each character; at some places another one is as likely."""
    out = np.full((2 * len(text), CODEC.size), 1e-3)
    for i, character in enumerate(text):
        out[2 * i, CODEC.labels[character]] = 1.0
        out[2 * i + 1, 0] = 1.0
        if doubt and i in doubt:
            out[2 * i, CODEC.labels[doubt[i]]] = 1.05
    return np.log(out / out.sum(1, keepdims=True))


def text_of(y: np.ndarray, decoding: Decoding) -> str:
    return CODEC.decode(labellings(y, CODEC, decoding, rule_of(decoding, CODEC))[0].labels)


def test_words_are_those_of_the_lexicon_or_cost_something() -> None:
    y = frames("ab cc", {4: "b"})  # the best labels say "ab cb"
    assert text_of(y, Decoding()) == "ab cb"
    assert text_of(y, Decoding(lexicon=("ab", "cc"))) == "ab cc"
    assert text_of(y, Decoding(lexicon=("ab", "cc"), unknown_word=-9.0)) == "ab cc"
    assert text_of(y, Decoding(lexicon=("ab", "cc"), unknown_word=-0.001)) == "ab cb"


@pytest.mark.parametrize("way", ["n-grams", "forecast", "forecast+sample"])
def test_pairs_of_words_decide(way: str) -> None:
    y = frames("ab cc", {4: "b"})
    texts = ("ab cc",) * 20 + ("cb ab",)
    lexicon = ("ab", "cc", "cb")
    assert text_of(y, Decoding(lexicon=lexicon)) == "ab cb"
    chosen = Decoding(lexicon=lexicon, words=way, word_texts=texts)  # type: ignore[arg-type]
    assert text_of(y, chosen) == "ab cc"
    weak = Decoding(lexicon=lexicon, words=way, word_texts=texts, word_weight=0.0)  # type: ignore[arg-type]
    assert text_of(y, weak) == "ab cb"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lm_weight": -0.1}, "must not be negative"),
        ({"lm_weight": float("nan")}, "must not be negative"),
        ({"word_weight": -1.0, "lexicon": ("a",)}, "must not be negative"),
        ({"lm_bonus": float("inf")}, "must be finite"),
        ({"words": "poems", "lexicon": ("a",)}, "no way 'poems'"),
        ({"unknown_word": 2.0, "lexicon": ("a",)}, "costs"),
        ({"unknown_word": -2.0}, "give one"),
        ({"words": "n-grams", "lexicon": ("a",)}, "texts to count"),
        ({"word_texts": ("a",), "lexicon": ("a",)}, "texts to count"),
    ],
)
def test_odd_wishes_are_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Decoding(**asked)  # type: ignore[arg-type]


def test_words_by_the_command(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", line=np.exp(frames("ab cc", {4: "b"})), symbols=np.array(list("abc ")))
    (tmp_path / "words").write_text("ab\ncc\ncb\n")
    (tmp_path / "texts").write_text("ab cc\n" * 20)
    decoded = ["decode", tmp_path / "a.npz", "--lexicon", tmp_path / "words"]
    assert run(*decoded)[1] == "line\tab cb\n"
    counted = ["--words", "forecast", "--word-text", tmp_path / "texts"]
    assert run(*decoded, *counted)[1] == "line\tab cc\n"
    code, _, said = run("decode", tmp_path / "a.npz", "--lm-weight", "-1")
    assert code != 0
    assert "must not be negative" in said


def piece(x0: float, x1: float, level: float, name: str, slope: float = 0.0) -> Line:
    a, b = level + slope * x0, level + slope * x1
    outline = ((x0, a - 20), (x1, b - 20), (x1, b + 8), (x0, a + 8))
    return Line("", 0.0, polygon=outline, baseline=((x0, a), (x1, b)), name=name)


def test_pieces_of_a_row_become_one_line() -> None:
    lines = [piece(0, 100, 50, "a", 0.05), piece(0, 90, 90, "b"), piece(300, 400, 50, "c", 0.05)]
    row, other = joined(lines)
    assert other is lines[1]
    assert row.box == (0, 30, 400, 78)
    assert row.baseline == ((0, 50), (100, 55), (300, 65), (400, 70))
    assert all(a[0] <= b[0] for a, b in pairwise(row.polygon[:4]))
    assert [line.name for line in joined([piece(0, 100, 50, "a"), piece(60, 160, 50, "b")])] == ["a", "b"]


def test_rows_of_a_region_are_joined_when_asked(tmp_path: Path) -> None:
    grey, _ = two_columns(0)
    h, w = grey.shape
    cv2.imwrite(str(tmp_path / "p.png"), grey)
    block = f'<TextBlock ID="b" HPOS="0" VPOS="0" WIDTH="{w}" HEIGHT="{h}"/>'
    name = "<sourceImageInformation><fileName>p.png</fileName></sourceImageInformation>"
    (tmp_path / "p.xml").write_text(f'<alto>{name}<Page WIDTH="{w}" HEIGHT="{h}">{block}</Page></alto>')
    assert run("segment", tmp_path / "p.xml", "-o", tmp_path / "a.xml")[0] == 0
    assert run("segment", tmp_path / "p.xml", "-o", tmp_path / "b.xml", "--join")[0] == 0
    apart, together = (read_page_file(tmp_path / f"{name}.xml").lines for name in "ab")
    assert len(together) < len(apart)
    widest = [max(line.box[2] - line.box[0] for line in lines) for lines in (apart, together)]
    assert widest[1] > 1.5 * widest[0]
    assert "give those" in run("segment", tmp_path / "p.png", "-o", tmp_path / "c.xml", "--join")[2]


def test_missing_images_are_named_or_stop_the_training(tmp_path: Path) -> None:
    index = write_set("lines", tmp_path, 8, seed=1)
    rows = index.read_text().splitlines()
    index.write_text("\n".join([*rows, "gone.png,abc", "lost.png,abd"]) + "\n")
    small = ["--set", "model.hidden=8", "--set", "model.channels=[4,4]", "--set", "loop.epochs=1"]
    small += ["--set", "data.generated=0", "--set", "pixels=16384", "--out", tmp_path / "run"]
    code, _, said = run("train", "lines", index, *small, "--strict")
    assert code != 0
    assert "2 of 10 images are missing" in said
    assert "gone.png" in said
    assert not (tmp_path / "run").exists()
    code, _, said = run("train", "lines", index, *small)
    assert code == 0, said
    assert "lost.png" in said
