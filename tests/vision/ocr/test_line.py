"""Pictures of any kind become ink of one height."""

import io

import numpy as np
import pytest
from PIL import Image

from core.errors import DataError
from vision.ocr.codec import Codec, clean
from vision.ocr.image import read_grey
from vision.ocr.line import GRAIN, LineSettings, counted, percentiles, pieces, prepare


def test_height_and_grain_whatever_comes_in(scribble: np.ndarray) -> None:
    for height in (32, 64):
        ink = prepare(scribble, LineSettings(height=height))
        assert ink.shape[0] == height
        assert ink.shape[1] % GRAIN == 0
        assert ink.max() == 255
        assert (ink[:, :8] == 0).all()


def test_a_negative_is_turned_round(scribble: np.ndarray) -> None:
    np.testing.assert_allclose(
        prepare(255 - scribble, LineSettings()).astype(int), prepare(scribble, LineSettings()), atol=2
    )


def test_a_blank_line_has_no_ink() -> None:
    assert prepare(np.full((40, 100), 200, np.uint8), LineSettings()).max() == 0


def test_percentiles_of_counts_are_numpys() -> None:
    rng = np.random.default_rng(0)
    for most in (1, 7, 256):
        grey = rng.integers(0, most, (3, 37)).astype(np.uint8)
        shares = (0, 1, 33.3, 50, 85, 99, 100)
        assert percentiles(counted(grey), shares) == np.percentile(grey, shares).tolist()


def test_long_lines_are_cut_at_blank_columns() -> None:
    ink = np.full((8, 1000), 9, np.uint8)
    ink[:, 384:416] = 0
    parts = pieces(ink, 512)
    assert all(part.shape[1] <= 512 for part in parts)
    assert sum(part.shape[1] for part in parts) == 1000
    assert 384 <= parts[0].shape[1] <= 416


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "JPEG2000"])
def test_formats_give_the_same_grey(form: str, scribble: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(scribble).save(file, form)
    assert np.abs(read_grey(file.getvalue()).astype(int) - scribble).mean() < 6


def test_alpha_lies_on_white_and_16_bits_become_8(scribble: np.ndarray) -> None:
    clear = np.dstack([np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), np.uint8)])
    assert (read_grey(Image.fromarray(clear, "RGBA")) == 255).all()
    deep = Image.fromarray(scribble.astype(np.uint16) * 257)
    assert (read_grey(deep) == scribble).all()
    assert (read_grey(scribble.astype(np.uint16) * 257) == scribble).all()


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    exif = image.getexif()
    exif[274] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    assert read_grey(file.getvalue()).shape == (4, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_image_is_one_sentence(data: bytes) -> None:
    with pytest.raises(DataError, match=r"image"):
        read_grey(data)


def test_codec_round_trip_and_unknown_characters() -> None:
    codec = Codec.of(["été à", "un  mot"])
    assert codec.decode(codec.encode(" e\u0301té ")) == "été"
    assert codec.unknown(["xyé"]) == {"x": 1, "y": 1}
    with pytest.raises(DataError, match="'x'"):
        codec.encode("x")
    assert clean(" a \t b\u00a0c ") == "a b c"
    assert Codec.from_dict(codec.as_dict()) == codec


def test_views_agree_on_what_all_of_them_find_probable(scribble: np.ndarray) -> None:
    from core.ctc.prefix_beam import Hypothesis
    from vision.ocr.views import VIEWS, agreed, variants

    views = variants(prepare(scribble, LineSettings(height=32)))
    assert len(views) == len(VIEWS)
    assert all(view.shape[0] == 32 and view.shape[1] % GRAIN == 0 for view in views)
    sure, torn = np.log([[0.05, 0.9, 0.05]]), np.log([[0.02, 0.03, 0.95]])
    proposals = [Hypothesis(labels, 0.0, 0.0, 0.0, ()) for labels in ((1,), (2,), (1,))]
    found = agreed(proposals, [sure, sure, torn])
    assert [h.labels for h in found] == [(1,), (2,)]
    assert found[0].score == pytest.approx((2 * np.log(0.9) + np.log(0.03)) / 3)


def test_a_character_model_that_does_not_know_the_text_counts_less() -> None:
    from core.ctc.char_lm import train_char_lm
    from vision.ocr.codec import Codec
    from vision.ocr.decoding import Decoding, labellings

    codec = Codec(tuple("abcd"))
    lm = train_char_lm(["abababab"] * 20, 3)
    logits = np.random.default_rng(0).normal(0, 2, (9, 5))
    y = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def score(doubt: float | None, weight: float, bonus: float) -> float:
        return labellings(y, codec, Decoding(lm=lm, lm_weight=weight, lm_bonus=bonus, lm_doubt=doubt))[
            0
        ].score

    assert score(1e9, 1.5, 2.0) == score(None, 1.5, 2.0)
    assert score(0.0, 1.5, 2.0) == pytest.approx(score(None, 0.45, 0.6))
    assert score(None, 1.5, 2.0) != pytest.approx(score(None, 0.45, 0.6))
