"""Lines of generated pages: found, in order, bounded; no ink and pure noise end at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from vision.ocr.answer import Line
from vision.ocr.crop import cut_line
from vision.ocr.line import positive
from vision.ocr.metrics import matched, overlaps, page_figures
from vision.ocr.page import find_page
from vision.ocr.segmentation.apart import halves, kept_apart
from vision.ocr.segmentation.ink import sheet
from vision.ocr.segmentation.order import reading_order
from vision.ocr.synth.pages import Placed, register, two_columns, with_notes
from vision.ocr.synth.writing import letter


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_line_of_a_letter_is_found_from_above(seed: int) -> None:
    grey, texts = letter(seed, 6)
    page = find_page(grey)
    assert abs(len(page.lines) - len(texts)) <= 1
    middles = [np.mean([y for _, y in line.polygon]) for line in page.lines]
    assert middles == sorted(middles)
    for line in page.lines:
        points = np.array(line.polygon)
        assert (points >= 0).all()
        assert (points[:, 0] < grey.shape[1]).all()
        assert (points[:, 1] < grey.shape[0]).all()
        x0, y0, x1, y1 = line.box
        assert all(x0 - 1 <= x <= x1 + 1 and y0 - 1 <= y <= y1 + 1 for x, y in line.baseline)


def test_lines_are_cut_out_with_their_ink() -> None:
    grey, _ = letter(0, 3)
    for line in find_page(grey).lines:
        cut = cut_line(grey, line)
        assert cut.shape[1] > cut.shape[0]
        assert cut.min() < 130


def test_a_slanted_line_is_turned_level() -> None:
    grey = np.full((200, 400), 255, np.uint8)
    for x in range(40, 360):
        y = 60 + x // 6
        grey[y : y + 8, x] = 0
    line = Line("", 0, polygon=((30, 55), (370, 112), (370, 135), (30, 78)), baseline=((40, 68), (360, 121)))
    rows = np.flatnonzero((cut_line(grey, line) < 100).any(1))
    assert rows[-1] - rows[0] < 16


def test_a_negative_has_the_lines_of_its_positive() -> None:
    grey, _ = two_columns(3, 3)
    framed = np.pad(grey, 120, constant_values=8)  # a scanner's lid
    assert (positive(framed) == framed).all()
    assert (positive(255 - grey) == grey).all()
    assert find_page(255 - grey).lines == find_page(grey).lines
    assert (positive(np.zeros((3, 2), np.uint8)) == 0).all()


def test_what_lies_dark_beside_the_sheet_holds_no_lines() -> None:
    grey, _ = two_columns(3, 3)
    rng = np.random.default_rng(0)
    table = rng.normal(0.45 * np.median(grey), 14, (len(grey), 160)).clip(0, 255).astype(np.uint8)
    plain, found = find_page(grey), find_page(np.hstack([table, grey]))
    assert len(found.lines) == len(plain.lines)
    assert min(line.box[0] for line in found.lines) > 140
    shade = np.interp(np.arange(grey.shape[1]), [0, 600], [0.5, 1.0])  # towards a fold
    assert sheet((grey * shade).astype(np.uint8)) == (slice(0, grey.shape[0]), slice(0, grey.shape[1]))


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 200), (2000, 1500)])
def test_blank_pages_have_no_lines(shape: tuple[int, int]) -> None:
    page = find_page(np.full(shape, 230, np.uint8))
    assert page.lines == ()
    assert "no ink" in page.remarks[0]


def test_noise_is_bounded() -> None:
    spots = np.random.default_rng(0).random((330, 330)) < 0.1
    grey = np.where(np.kron(spots, np.ones((3, 3))) > 0, 0, 255).astype(np.uint8)
    page = find_page(grey)
    assert len(page.lines) <= 1000
    assert "noise, or print" in " ".join(page.remarks)
    assert find_page(letter(0, 3)[0]).remarks == ()


def box(x0: int, y0: int, x1: int, y1: int, name: str) -> Line:
    return Line(name, 1.0, polygon=((x0, y0), (x1, y0), (x1, y1), (x0, y1)), name=name)


def test_two_columns_are_read_one_after_the_other() -> None:
    left = [box(0, 40 * i, 100, 40 * i + 30, f"l{i}") for i in range(4)]
    right = [box(150, 40 * i + 7, 250, 40 * i + 37, f"r{i}") for i in range(4)]
    lines = reading_order([*right, *left])
    assert [line.name for line in lines] == ["l0", "l1", "l2", "l3", "r0", "r1", "r2", "r3"]
    mirrored = reading_order([*left, *right], right_to_left=True)
    assert [line.name for line in mirrored][:4] == ["r0", "r1", "r2", "r3"]


def test_a_heading_comes_before_both_columns() -> None:
    lines = [box(150, 50, 250, 80, "r"), box(0, 50, 100, 80, "l"), box(0, 0, 250, 30, "h")]
    assert [line.name for line in reading_order(lines)] == ["h", "l", "r"]


def test_lines_offset_by_a_few_pixels_stay_in_order() -> None:
    lines = [box(3 * (i % 2), 30 * i, 200 - 5 * (i % 3), 30 * i + 34, str(i)) for i in range(8)]
    assert [line.name for line in reading_order(lines[::-1])] == [str(i) for i in range(8)]


def test_boxes_match_one_to_one() -> None:
    true = [(0, 0, 10, 10), (0, 20, 10, 30)]
    found = [(0, 19, 10, 29), (0, 0, 10, 11), (0, 0, 10, 9)]
    assert abs(overlaps(true, found)[0, 1] - 10 / 11) < 1e-9
    assert sorted(matched(true, found)) == [(0, 1), (1, 0)]
    figures = page_figures([box(*true[0], "ab"), box(*true[1], "cd")], [box(*found[1], "ax")])
    assert figures == {"lines": 2, "found": 1, "matched": 1, "characters": 4, "errors": 3}


def inside(placed: Placed, line: Line) -> bool:
    """Whether a line holds a text that was put on a page."""
    x0, y0, x1, y1 = line.box
    a, b, c, d = placed.box
    return x0 - 6 <= a and c <= x1 + 6 and y0 < (b + d) / 2 < y1


@pytest.mark.parametrize("make", [two_columns, with_notes, register], ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_generated_pages_are_read_in_their_order(make: Callable[..., Any], seed: int) -> None:
    grey, placed = make(seed)
    page = find_page(grey)
    found = [[i for i, line in enumerate(page.lines) if inside(text, line)] for text in placed]
    assert all(len(places) == 1 for places in found)
    order = [places[0] for places in found]
    assert order == sorted(order)
    assert len(page.lines) == len(placed)


@pytest.mark.parametrize("ruled", [True, False])
def test_cells_have_rows_and_columns_and_empty_ones_stay_empty(ruled: bool) -> None:
    grey, placed = register(1, ruled=ruled)
    page = find_page(grey)
    (table,) = page.tables
    assert (table.rows, table.columns) == (7, 4)
    assert len(table.cells) == 28
    for text in placed:
        line = next(line for line in page.lines if inside(text, line))
        assert (line.table, line.row, line.column) == (0, *(text.cell or ()))
    filled = {text.cell for text in placed}
    texts = table.texts(tuple(replace(line, text="x") for line in page.lines), 0)
    assert {(r, c) for r, row in enumerate(texts) for c, text in enumerate(row) if text} == filled


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("make", [two_columns, with_notes, register, letter], ids=lambda make: make.__name__)
def test_outlines_hold_their_baseline_and_no_other(make: Callable[..., Any], seed: int) -> None:
    grey, _ = make(seed, 12) if make is letter else make(seed)
    page = find_page(grey)
    for line in page.lines:
        outline = np.array(line.polygon, np.float32)
        assert (outline >= 0).all()
        assert (outline < [page.width_px, page.height_px]).all()
        for other in page.lines:
            x = np.linspace(other.baseline[0][0], other.baseline[-1][0], 40)[1:-1]
            y = np.interp(x, *np.array(other.baseline).T)
            held = [cv2.pointPolygonTest(outline, point, True) for point in np.c_[x, y].tolist()]
            assert min(held) > -1 if other is line else max(held) <= 0
    heights = [(lower - upper)[:, 1] for upper, lower in map(halves, page.lines)]
    assert max(map(np.max, heights)) <= 2.6 * np.median([np.median(height) for height in heights])


def test_an_edge_is_moved_off_an_insertion_and_a_flourish_is_cut() -> None:
    def line(base: float, up: float, down: float, x: tuple[float, ...]) -> Line:
        points = [(a, base - up) for a in x] + [(a, base + down) for a in reversed(x)]
        return Line("", 0.0, polygon=tuple(points), baseline=tuple((a, base) for a in x))

    ends = (0.0, 100.0, 200.0, 300.0)
    plain = line(300, 30, 10, ends)
    inserted, below = line(60, 20, 8, (100.0, 200.0)), line(100, 60, 10, ends)
    upper, _ = halves(kept_apart([inserted, below, plain])[1])
    assert upper[:, 1].tolist() == [66, 66, 66, 66]  # 60 + 0.15 * 40, one point further at both ends
    upper, lower = halves(kept_apart([plain, line(900, 200, 300, ends), plain])[1])
    assert (upper[0, 1], lower[0, 1]) == (830, 930)  # 2.5 times 40, 0.7 of it above
    assert kept_apart([plain]) == [plain]
    assert kept_apart([]) == []


def test_bulging_outlines_fall_back_to_their_baseline() -> None:
    from vision.ocr.given import tamed

    lines = [
        Line("", 0, polygon=((0, y - 30), (90, y - 30), (90, y + 9), (0, y + 9)), baseline=((0, y), (90, y)))
        for y in range(100, 300, 40)
    ]
    high = replace(lines[2], polygon=((0, 20), (90, 20), (90, 290), (0, 290)))
    found = tamed((*lines[:2], high, *lines[3:]))
    assert found[:2] == tuple(lines[:2])
    assert found[2].box == (0, 144, 90, 196)
