"""Files of many pages and kinds: PDF in and out, TIFF, turned pages, hOCR, several processes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import DataError
from tests.vision.ocr.test_commands import run
from vision.ocr.answer import Char, Line, Page
from vision.ocr.formats import read_page_file, read_page_files, written
from vision.ocr.formats.pdf import seen_to_page, to_pdf
from vision.ocr.sources import pictures
from vision.ocr.synth.writing import letter
from vision.ocr.upright import as_delivered, turned


def page_of(width: int, height: int, words: str = "deux mots") -> Page:
    """A page with one line whose words lie at known places."""
    step = 20.0
    chars = tuple(Char(c, 0.9, i * step, (i + 1) * step) for i, c in enumerate(words))
    right = 100.0 + step * len(words)
    corners = ((100.0, 200.0), (right, 200.0), (right, 260.0), (100.0, 260.0))
    return Page("a.png", width, height, (Line(words, 0.9, chars, (), corners, ((100, 245), (right, 245))),))


def words_in(data: bytes) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Text and box of the runs of a PDF's first page, in points."""
    import pypdfium2 as pdfium

    text = pdfium.PdfDocument(data)[0].get_textpage()
    found = [text.get_charbox(i) for i in range(text.count_chars())]
    said = text.get_text_range()
    at = said.index("mots")
    return [(said.strip(), (found[at][0], found[at][1], found[at + 3][2], found[at + 3][3]))]


def test_words_of_a_pdf_lie_on_their_ink() -> None:
    grey = np.full((600, 800), 255, np.uint8)
    data = to_pdf([page_of(800, 600)], grey, [150.0])
    ((text, box),) = words_in(data)
    assert text == "deux mots"
    left, right = (100 + 20 * 5) * 72 / 150, (100 + 20 * 9) * 72 / 150
    assert abs(box[0] - left) < 2
    assert abs(box[2] - right) < 2
    assert abs(box[1] - (600 - 245) * 72 / 150) < 2


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_given_pdf_keeps_its_pages_and_gains_text(rotation: int) -> None:
    from pypdf import PdfReader, PdfWriter

    whole = PdfWriter(
        clone_from=PdfReader(
            io.BytesIO(to_pdf([page_of(800, 600, "")], np.zeros((600, 800), np.uint8), [72.0]))
        )
    )
    whole.pages[0].rotate(rotation)
    out = io.BytesIO()
    whole.write(out)
    (seen,) = pictures(out.getvalue())
    h, w = seen.grey.shape
    assert (w > h) == (rotation % 180 == 0)
    data = to_pdf([page_of(w, h)], out.getvalue(), [seen.dpi])
    assert len(PdfReader(io.BytesIO(data)).pages) == 1
    assert words_in(data)[0][0] == "deux mots"


def test_the_corners_of_a_turned_page_meet() -> None:
    a, b, c, d, e, f = seen_to_page(90, 200, 300)
    assert (a * 0 + c * 0 + e, b * 0 + d * 0 + f) == (200, 0)


def test_every_frame_and_page_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((40, 60), shade, np.uint8)) for shade in (10, 120, 240)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert [int(p.grey[0, 0]) for p in pictures(tmp_path / "a.tif")] == [10, 120, 240]
    assert [p.number for p in pictures(tmp_path / "a.tif")] == [1, 2, 3]


def test_pictures_of_every_mode_are_grey(tmp_path: Path) -> None:
    colour = Image.new("RGB", (30, 20), (250, 250, 250))
    for name, image in {
        "cmyk.jpg": colour.convert("CMYK"),
        "deep.png": Image.fromarray(np.full((20, 30), 64000, np.uint16)),
        "alpha.png": Image.new("RGBA", (30, 20), (0, 0, 0, 0)),
        "web.webp": colour,
        "jp2.jp2": colour,
    }.items():
        image.save(tmp_path / name)
        (seen,) = pictures(tmp_path / name)
        assert seen.grey.shape == (20, 30)
        assert abs(int(seen.grey[10, 10]) - 250) <= 6, name
    exif = Image.Exif()
    exif[274] = 6
    colour.save(tmp_path / "turned.jpg", exif=exif)
    assert next(pictures(tmp_path / "turned.jpg")).grey.shape == (30, 20)


@pytest.mark.parametrize(
    ("content", "said"), [(b"%PDF-1.4\nnothing", "damaged"), (b"%PDF-1.7", "damaged")], ids=["cut", "empty"]
)
def test_a_damaged_pdf_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(DataError, match=said):
        list(pictures(tmp_path / "a.pdf"))


def test_a_pdf_with_a_password_is_named(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret")
    writer.write(tmp_path / "a.pdf")
    with pytest.raises(DataError, match="password"):
        list(pictures(tmp_path / "a.pdf"))


def test_a_pdf_without_pages_is_named_whatever_came_before(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    test_a_pdf_with_a_password_is_named(tmp_path)
    PdfWriter().write(tmp_path / "a.pdf")
    with pytest.raises(DataError, match=r"a\.pdf: .* has no pages"):
        list(pictures(tmp_path / "a.pdf"))


def test_hocr_comes_back(tmp_path: Path) -> None:
    pages = [page_of(800, 600), page_of(700, 500, "été 1914")]
    (tmp_path / "a.html").write_text(written(pages, "hocr"), encoding="utf-8")
    again = read_page_files(tmp_path / "a.html")
    assert [page.text for page in again] == ["deux mots", "été 1914"]
    assert [page.width_px for page in again] == [800, 700]
    assert again[0].lines[0].box == pages[0].lines[0].box
    assert abs(again[0].lines[0].baseline[0][1] - 245) <= 1
    (tmp_path / "a.xml").write_text(written(pages, "alto"), encoding="utf-8")
    assert [page.text for page in read_page_files(tmp_path / "a.xml")] == ["deux mots", "été 1914"]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_lines_of_a_turned_page_lie_on_the_image_as_it_came(rotation: int) -> None:
    grey = np.full((60, 100), 255, np.uint8)
    grey[10:20, 30:50] = 0
    upright = turned(grey, rotation)
    ys, xs = np.nonzero(upright < 9)
    box = [(xs.min(), ys.min()), (xs.max(), ys.min()), (xs.max(), ys.max()), (xs.min(), ys.max())]
    corners = tuple((float(x), float(y)) for x, y in box)
    page = Page("a", upright.shape[1], upright.shape[0], (Line("", 0, polygon=corners),))
    back = as_delivered(page, rotation)
    assert (back.width_px, back.height_px, back.rotation) == (100, 60, rotation)
    assert back.lines[0].box == (30, 10, 49, 19)


@pytest.mark.slow
def test_a_page_on_its_head_is_turned() -> None:
    from vision.ocr.predict import read_page

    grey, texts = letter(4, 5)
    page = read_page(np.ascontiguousarray(np.rot90(grey, 2)))
    assert page.rotation in (0, 180)  # words that nobody wrote are read with doubt either way
    assert len(page.lines) >= len(texts) - 1


def test_processes_give_the_same_answers(
    tmp_path: Path, untrained: dict[str, Path], scribble: np.ndarray
) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        Image.fromarray(scribble).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "d.png").write_bytes(b"nothing")
    words = ["read", tmp_path / "in", "--weights", untrained["lines"], "--format", "jsonl"]
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert run(*words, "-o", one)[0] == 2
    code, _, said = run(*words, "-o", two, "--jobs", 2)
    assert code == 2
    assert "d.png" in said
    assert one.read_text() == two.read_text()
    rows = one.read_text().splitlines(keepends=True)
    one.write_text(rows[0] + rows[1][:20])  # as a kill leaves it
    run(*words, "-o", one, "--resume")
    assert sorted(one.read_text().splitlines()) == sorted(two.read_text().splitlines())


def test_convert_writes_a_searchable_pdf(tmp_path: Path) -> None:
    Image.fromarray(np.full((600, 800), 255, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(written(page_of(800, 600), "page"))
    assert run("convert", tmp_path / "a.xml", "--format", "pdf", "-o", tmp_path / "a.pdf")[0] == 0
    assert read_page_file(tmp_path / "a.pdf").text == "deux mots"
    assert run("convert", tmp_path / "a.pdf", "--format", "text", "-o", tmp_path / "b.txt")[0] == 0
    assert (tmp_path / "b.txt").read_text() == "deux mots\n"


def test_lines_fill_the_regions_of_a_file(tmp_path: Path) -> None:
    grey, _ = letter(0, 4)
    h, w = grey.shape
    Image.fromarray(grey).save(tmp_path / "p.png")
    block = f'<TextBlock ID="b" HPOS="0" VPOS="0" WIDTH="{w}" HEIGHT="{h // 2}"/>'
    name = "<sourceImageInformation><fileName>p.png</fileName></sourceImageInformation>"
    (tmp_path / "p.xml").write_text(f'<alto>{name}<Page WIDTH="{w}" HEIGHT="{h}">{block}</Page></alto>')
    assert run("segment", tmp_path / "p.xml", "-o", tmp_path / "o.xml")[0] == 0
    lines = read_page_file(tmp_path / "o.xml").lines
    assert 1 <= len(lines) < 4
    assert all(np.mean(line.polygon, axis=0)[1] < h / 2 for line in lines)


def test_stored_log_probabilities_are_decoded(tmp_path: Path) -> None:
    frames = np.full((6, 3), 0.05)
    frames[[0, 1, 2, 3, 4, 5], [1, 0, 1, 2, 2, 0]] = 0.9
    np.savez(tmp_path / "a.npz", line=frames, symbols=np.array(["a", "b"]))
    code, out, _ = run("decode", tmp_path / "a.npz")
    assert (code, out) == (0, "line\taab\n")
    assert run("decode", tmp_path / "a.npz", "--regex", "a+")[1].startswith("line\ta")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    assert "not a complete file of numpy" in run("decode", tmp_path / "b.npz")[2]
