"""Formats of others: round trips keep text and geometry, hostile files are one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import DataError
from vision.ocr.answer import Cell, Char, Line, Page, Table
from vision.ocr.formats import SUFFIXES, read_page_file, written


def line(text: str, y: float, name: str) -> Line:
    width = 600.0
    step = width / max(len(text), 1)
    chars = tuple(Char(c, 0.5 + 0.4 * (i % 2), i * step, (i + 1) * step) for i, c in enumerate(text))
    corners = ((100.0, y), (700.0, y + 4), (700.0, y + 60), (100.0, y + 56))
    base = ((100.0, y + 44), (400.0, y + 46), (700.0, y + 48))
    others = ((text, 0.8), (f"{text}x", 0.2), ("tiny", 1e-6))
    return Line(text, 0.7, chars, others, corners, base, name=name)


PAGE = Page(
    "letter & <page>.jpg",
    1000,
    800,
    (line('Mon cher "ami" & <vous>', 50, "line_1"), line("été", 150, "line_2"), line("", 250, "line_3")),
)


@pytest.mark.parametrize("form", ["alto", "page", "json"])
def test_round_trip_keeps_text_and_geometry(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{SUFFIXES[form]}"
    path.write_text(written(PAGE, form), encoding="utf-8")
    again = read_page_file(path)
    assert (again.image, again.width_px, again.height_px) == (PAGE.image, 1000, 800)
    assert [part.text for part in again.lines] == [part.text for part in PAGE.lines]
    assert [part.polygon for part in again.lines] == [part.polygon for part in PAGE.lines]
    assert [part.baseline for part in again.lines] == [part.baseline for part in PAGE.lines]
    assert [part.name for part in again.lines] == ["line_1", "line_2", "line_3"]


def test_alto_has_words_spaces_and_confidences() -> None:
    text = written(PAGE, "alto")
    assert text.count("<String") == 5 + 1
    assert text.count("<SP") == 4
    assert "<fileName>letter &amp; &lt;page&gt;.jpg</fileName>" in text
    assert 'WC="' in text
    assert "tiny" not in text


def test_page_words_carry_their_place_in_the_order() -> None:
    text = written(PAGE, "page")
    assert 'custom="readingOrder {index:0;}"' in text
    assert text.count("<Word") == 6
    assert '<TextEquiv index="1" conf="0.2000">' in text


def test_hocr_has_boxes_and_whole_percents() -> None:
    text = written(PAGE, "hocr")
    assert 'class="ocr_line" id="line_1" title="bbox 100 50 700 110; baseline' in text
    assert "x_wconf 6" in text or "x_wconf 7" in text


def test_alto_3_baseline_and_several_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<alto><Layout><Page WIDTH="9" HEIGHT="9">'
        '<TextLine HPOS="1" VPOS="2" WIDTH="5" HEIGHT="3" BASELINE="4">'
        '<String CONTENT="un"/><SP/><String CONTENT="mot"/></TextLine></Page></Layout></alto>'
    )
    (found,) = read_page_file(path).lines
    assert found.text == "un mot"
    assert found.baseline == ((1.0, 4.0), (6.0, 4.0))
    assert found.box == (1, 2, 6, 5)


def test_page_reading_order_and_alternatives(tmp_path: Path) -> None:
    def region(name: str, text: str) -> str:
        told = f'<TextEquiv index="1"><Unicode>no</Unicode></TextEquiv><TextEquiv index="0"><Unicode>{text}'
        return (
            f'<TextRegion id="{name}"><TextLine id="l_{name}"><Coords points="1,1 5,1 5,5"/>{told}'
            "</Unicode></TextEquiv></TextLine></TextRegion>"
        )

    order = '<ReadingOrder><OrderedGroup><RegionRefIndexed index="0" regionRef="b"/>'
    order += '<RegionRefIndexed index="1" regionRef="a"/></OrderedGroup></ReadingOrder>'
    path = tmp_path / "p.xml"
    about = '<PcGts><Page imageFilename="i.png" imageWidth="9" imageHeight="9">'
    path.write_text(f"{about}{order}{region('a', 'second')}{region('b', 'first')}</Page></PcGts>")
    assert [part.text for part in read_page_file(path).lines] == ["first", "second"]


HOSTILE = {
    "bomb": '<!DOCTYPE a [<!ENTITY b "x">]><alto>&b;</alto>',
    "outside": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><alto>&b;</alto>',
    "cut": "<alto><Layout>",
    "other": "<html/>",
    "empty": "",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_or_damaged_xml_is_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text(HOSTILE[name])
    with pytest.raises(DataError, match=r"x\.xml"):
        read_page_file(path)


def test_words_are_the_text_without_its_spaces() -> None:
    part = line("deux mots", 0, "l")
    assert [text for text, *_ in part.words()] == ["deux", "mots"]
    assert replace(part, chars=()).words() == []


def box(x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[float, float], ...]:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


@pytest.mark.parametrize("form", ["page", "json"])
def test_tables_come_back_with_their_empty_cells(form: str, tmp_path: Path) -> None:
    cells = tuple(
        Cell(r, c, box(50 + 400 * c, 40 + 90 * r, 440 + 400 * c, 120 + 90 * r))
        for r in (0, 1)
        for c in (0, 1)
    )
    table = Table(2, 2, box(50, 40, 840, 210), cells)
    inside = [
        replace(line(t, 50 + 90 * r, f"c{r}{c}"), table=0, row=r, column=c)
        for t, r, c in (("a b", 0, 0), ("c", 1, 1))
    ]
    page = replace(
        PAGE, lines=(line("above", 10, "line_0"), *inside, line("below", 300, "line_9")), tables=(table,)
    )
    path = tmp_path / f"x{SUFFIXES[form]}"
    path.write_text(written(page, form), encoding="utf-8")
    again = read_page_file(path)
    assert again.tables == page.tables
    places = [(part.text, part.table, part.row, part.column) for part in again.lines]
    assert places == [
        ("above", None, None, None),
        ("a b", 0, 0, 0),
        ("c", 0, 1, 1),
        ("below", None, None, None),
    ]
    assert written(again, "csv") == "a b,\n,c\n"
    assert written(PAGE, "csv").splitlines()[1] == "été"
