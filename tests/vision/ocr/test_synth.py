"""The generator: byte-equal for a seed, every glyph drawn, digits held back."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from tests.vision.ocr.test_commands import run
from vision.ocr.simulate import write_set
from vision.ocr.synth.alphabet import glyphs
from vision.ocr.synth.digits import compose, read_digits, strings
from vision.ocr.synth.writing import digit_strings, lines


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


@pytest.fixture
def digit_folder(tmp_path: Path) -> Path:
    """Digits drawn as bars as many rows high as they say; the last 5,000 are bright columns."""
    labels = np.arange(6000, dtype=np.uint8) % 10
    images = np.zeros((6000, 28, 28), np.uint8)
    for i, label in enumerate(labels):
        images[i, 4 : 8 + 2 * label, 8:20] = 255
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), 1))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_same_seed_same_bytes() -> None:
    for make in (lines, digit_strings):
        (a, text), (b, again) = make(1, 5)[0], make(2, 5)[0]
        assert text == again
        assert (a == b).all()
        assert make(1, 6)[0][1] != text


def test_the_alphabet_covers_french_and_english() -> None:
    wanted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"-()éèêëàâçîïôùûüœÉ^"
    assert not set(wanted) - set(glyphs())
    for variants in glyphs().values():
        assert all(np.isfinite(stroke).all() and stroke.shape[1] == 2 for v in variants for stroke in v)


def test_generated_lines_hold_ink_and_their_words_only() -> None:
    for grey, text in lines(4, 0, ["bonjour madame", "le 3 mai"]):
        assert grey.dtype == np.uint8
        assert grey.min() < 120 < grey.max()
        assert text.strip() == text
        assert not set(text) - set(glyphs()) - {" "}


def test_strings_are_composed_of_the_digits_given(digit_folder: Path) -> None:
    images, labels = read_digits(digit_folder)
    made = strings(images[:-5000], labels[:-5000], 20, 3, 10, 2)
    assert all(2 <= len(text) <= 10 for _, text in made)
    assert len({len(text) for _, text in made}) > 3
    assert (strings(images, labels, 2, 3)[1][0] == strings(images, labels, 2, 3)[1][0]).all()
    grey, text = compose(images, labels, 4, np.random.default_rng(0))
    assert len(text) == 4
    assert grey.min() < 130


def test_simulate_writes_an_index_that_evaluate_reads(tmp_path: Path, digit_folder: Path) -> None:
    from vision.ocr.data import read_samples
    from vision.ocr.image import read_grey

    index = write_set("digits", tmp_path / "out", 5, digit_folder, seed=1, show=True)
    samples = read_samples([index])
    assert [len(sample.text) >= 2 for sample in samples] == [True] * 5
    assert read_grey(samples[0].image).ndim == 2
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_simulated_lines_have_the_words_of_a_text_and_fonts_where_there_are_such(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("zwq vexx\n")
    words = ["simulate", "lines", "-o", tmp_path / "out", "--count", 12, "--text", tmp_path / "t.txt"]
    assert run(*words, "--fonts", 0.5)[0] == 0
    rows = (tmp_path / "out" / "index.csv").read_text().splitlines()[1:]
    own = [row.partition(",")[2] for row in rows if set(row.partition(",")[2].split()) <= {"zwq", "vexx"}]
    assert len(rows) == 12
    assert 4 <= len(own) < 12
    assert "are of lines" in run("simulate", "digits", "-o", tmp_path / "d", "--fonts", 0.5)[2]
    assert not (tmp_path / "d").exists()


def test_damaged_digits_are_named(tmp_path: Path) -> None:
    (tmp_path / "images-idx3").write_bytes(b"\0\0\x08\x03" + b"\0\0\0\x05" * 3 + b"xx")
    with pytest.raises(DataError, match="its header says"):
        read_digits(tmp_path)


def test_fonts_are_found_and_lines_without_them_are_the_same_everywhere() -> None:
    from vision.ocr.synth import fonts, writing

    again = [writing.lines(2, 5), writing.lines(2, 5)]
    assert all((a == b).all() and s == t for (a, s), (b, t) in zip(*again, strict=True))
    if not fonts.installed():
        assert fonts.set_line("abc", np.random.default_rng(0)) is None
        return
    grey = fonts.set_line("abc", np.random.default_rng(0))
    assert grey is not None
    assert grey.min() < 140
    assert not fonts.covering("\ufffe", fonts.installed())


def test_unknown_letters_lose_their_accents() -> None:
    from vision.ocr.codec import Codec

    assert Codec(tuple("ae c")).replaced("çà é Ж") == "ca e"
