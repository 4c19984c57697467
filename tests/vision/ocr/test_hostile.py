"""What strangers and damaged disks give: one clear sentence or a counted skip, never a traceback."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from core.ctc.constraints import regular
from core.errors import DataError, RecurraError
from tests.golden import ROOT
from tests.vision.ocr.test_commands import run
from vision.ocr.answer import Line
from vision.ocr.codec import Codec
from vision.ocr.crop import cut_line
from vision.ocr.decoding import Decoding, labellings, rule_of
from vision.ocr.formats import read_page_files
from vision.ocr.image import read_grey
from vision.ocr.line import LineSettings, pieces, prepare
from vision.ocr.pen.strokes import read_ink
from vision.ocr.sources import pictures
from vision.ocr.stored import decoded

FUZZED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PAGES = {
    ".xml": b'<alto><Page WIDTH="9" HEIGHT="9"><TextLine HPOS="1" VPOS="2" WIDTH="5" HEIGHT="3" BASELINE="4">'
    b'<String CONTENT="un"/></TextLine></Page></alto>',
    ".json": b'{"pages":[{"image":"a","width_px":9,"height_px":9,"lines":[{"text":"a","confidence":1}]}]}',
    ".html": b'<div class="ocr_page" title="image a; bbox 0 0 9 9"><span class="ocr_line" '
    b'title="bbox 1 1 5 5; baseline 0 -1"><span class="ocrx_word" title="bbox 1 1 5 5">a</span></span></div>',
    ".pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]>>endobj",
}


def in_a_sentence(action: Callable[[], Any]) -> None:
    """Whatever the action refuses, it refuses in one line."""
    try:
        action()
    except RecurraError as error:
        if "\n" in str(error):
            pytest.fail(f"several lines: {error}")


def changed(data: bytes, draw: Any) -> bytes:
    """Bytes with some of them replaced, and perhaps cut."""
    found = bytearray(data)
    for _ in range(draw(st.integers(0, 6))):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found[: draw(st.integers(1, len(found)))])


@pytest.mark.parametrize("suffix", sorted(PAGES))
@FUZZED
@given(data=st.data())
def test_damaged_pages_are_sentences(suffix: str, data: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(changed(PAGES[suffix], data.draw))
    in_a_sentence(lambda: [json.dumps(page.as_dict()) for page in read_page_files(path)])


@FUZZED
@given(data=st.data())
def test_damaged_images_are_sentences(data: Any) -> None:
    out = io.BytesIO()
    Image.new("L", (20, 10), 200).save(
        out, data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "GIF"]))
    )
    content = changed(out.getvalue(), data.draw)
    in_a_sentence(lambda: [picture.grey.sum() for picture in pictures(content)])


@pytest.mark.parametrize("suffix", [".csv", ".xml", ".npy", ".npz"])
@FUZZED
@given(content=st.binary(max_size=200))
def test_damaged_pens_are_sentences(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_ink(path)


@FUZZED
@given(text=st.text("ab(|)*+?.[]{}\\0-9^$", max_size=12))
def test_every_expression_is_a_rule_or_a_sentence(text: str) -> None:
    in_a_sentence(lambda: regular(text, tuple("ab09")))


@FUZZED
@given(data=st.data())
def test_every_matrix_is_decoded_by_every_decoder(data: Any) -> None:
    T = data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 1000))
    logits = np.random.default_rng(seed).normal(0, 5, (T, 4))
    y = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    codec = Codec(("a", "b", "1"))
    how = data.draw(
        st.sampled_from(
            [
                Decoding(),
                Decoding(beam=3, alternatives=4),
                Decoding(allow="a"),
                Decoding(regex="a*b?"),
                Decoding(digits=1),
                Decoding(lexicon=("ab", "a")),
                Decoding(choices=("ab", "1")),
            ]
        )
    )
    found = labellings(y, codec, how, rule_of(how, codec))
    assert found
    texts = [codec.decode(h.labels) for h in found]
    assert len(set(texts)) == len(texts)
    if np.isfinite(found[0].score):
        assert found[0].ctc <= 1e-6


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.png", b"not an image", "not an image"),
        ("cut.jpg", None, "damaged"),
        ("empty.png", b"", "not an image"),
    ],
)
def test_bad_images_are_named(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is None:
        out = io.BytesIO()
        Image.effect_noise((300, 200), 80).save(out, "JPEG")
        content = out.getvalue()[:2000]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_grey(tmp_path / name)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision.ocr.image.LARGEST", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more"):
        read_grey(tmp_path / "a.png")


def test_one_pixel_and_fifty_thousand_are_lines(untrained: dict[str, Path], tmp_path: Path) -> None:
    Image.new("L", (1, 1), 255).save(tmp_path / "a.png")
    assert run("read", tmp_path / "a.png", "--weights", untrained["lines"])[0] == 0
    wide = np.full((40, 50_000), 255, np.uint8)
    wide[10:30, ::40] = 0
    ink = prepare(wide, LineSettings())
    parts = pieces(ink)
    assert max(part.shape[1] for part in parts) <= 4096
    assert sum(part.shape[1] for part in parts) == ink.shape[1]


@pytest.mark.parametrize("body", ['<!DOCTYPE a [<!ENTITY b "c">]><alto>&b;</alto>', "<alto><Page", "<svg/>"])
def test_hostile_xml_is_refused(body: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(body)
    code, _, said = run("convert", tmp_path / "a.xml", "--format", "text", "-o", tmp_path / "o.txt")
    assert code != 0
    assert "a.xml" in said
    assert not (tmp_path / "o.txt").exists()


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(PAGES[".xml"])
    told = "its image (no name) is missing, and there is none of its stem"
    assert told in run("segment", tmp_path / "a.xml", "-o", tmp_path / "o.xml")[2]
    assert told in run("convert", tmp_path / "a.xml", "--format", "pdf", "-o", tmp_path / "o.pdf")[2]


def test_a_polygon_outside_the_page_is_blank() -> None:
    grey = np.full((50, 60), 255, np.uint8)
    line = Line("", 0, polygon=((900.0, 900.0), (950.0, 900.0), (950.0, 950.0)))
    assert cut_line(grey, line).shape == (16, 16)


def test_an_empty_page_is_fast_and_empty(untrained: dict[str, Path], tmp_path: Path) -> None:
    Image.new("L", (800, 1000), 255).save(tmp_path / "a.png")
    words = [
        "read",
        tmp_path / "a.png",
        "--task",
        "page",
        "--weights",
        untrained["lines"],
        "--format",
        "json",
    ]
    code, out, said = run(*words)
    assert code == 0
    assert json.loads(out)["pages"][0]["lines"] == []
    assert "no ink" in said


@pytest.mark.slow
def test_a_hundred_thousand_specks_end(untrained: dict[str, Path]) -> None:
    from vision.ocr.page import find_page

    rng = np.random.default_rng(0)
    grey = np.full((3000, 2400), 235, np.uint8)
    for y, x in zip(rng.integers(2, 2995, 100_000), rng.integers(2, 2395, 100_000), strict=True):
        grey[y : y + 3, x : x + 3] = 30
    began = time.process_time()
    page = find_page(grey)
    assert len(page.lines) <= 1000
    assert "spots of ink" in " ".join(page.remarks)
    assert time.process_time() - began < 30


def test_a_kraken_file_with_a_broken_length_is_refused(tmp_path: Path) -> None:
    data = bytearray((ROOT / "ocr" / "kraken_models.safetensors").read_bytes())
    data[0:8] = (2**60).to_bytes(8, "little")
    (tmp_path / "a.safetensors").write_bytes(bytes(data))
    code, _, said = run("import", tmp_path / "a.safetensors", "--layout", "kraken", "-o", tmp_path / "w")
    assert code != 0
    assert "WeightsError" in said


def test_a_lexicon_outside_the_alphabet_is_told(untrained: dict[str, Path], tmp_path: Path) -> None:
    Image.new("L", (100, 40), 255).save(tmp_path / "a.png")
    (tmp_path / "words").write_text("ЖЖЖ\n")
    words = ["read", tmp_path / "a.png", "--weights", untrained["lines"], "--lexicon", tmp_path / "words"]
    assert "ЖЖЖ" in run(*words)[2] or run(*words)[1] == "\n"


def test_empty_texts_are_left_out_of_training(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("image,text\na.png,\n")
    Image.new("L", (80, 40), 255).save(tmp_path / "a.png")
    code, _, said = run(
        "train", "lines", tmp_path / "i.csv", "--out", tmp_path / "r", "--set", "data.generated=0"
    )
    assert code != 0
    assert "nothing to train on" in said


def test_stored_nonsense_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((3, 3), np.nan), symbols=np.array(["a", "b"]))
    with pytest.raises(DataError, match="not finite"):
        decoded(tmp_path / "a.npz", Decoding())
