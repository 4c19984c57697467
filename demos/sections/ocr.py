"""Handwriting in the report: generated lines, digit strings and a page, read by the bundled weights."""

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.report import number, percent
from demos.markup import Stat
from demos.report import Section
from demos.theme import DOUBT, OURS, POOR

LINES, STRINGS = 24, 40
HEAD = ("reading", "CER", "words wrong", "read exactly")
UNSURE, SURE = 0.6, 0.9
"""Below the first a confidence is poor, above the second it is sure."""


def section(seed: int) -> Section:
    """Read generated lines and digit strings, and find the lines of a generated page."""
    from vision.ocr.answer import Line
    from vision.ocr.metrics import calibration_figures, text_figures
    from vision.ocr.page import find_page
    from vision.ocr.predict import read_page
    from vision.ocr.reader import load_reader
    from vision.ocr.synth.writing import digit_strings, letter, lines

    reader = load_reader(task="lines")
    made = lines(LINES, 1000 + seed)
    chosen, greedy = reader.read_each([grey for grey, _ in made], reader.decoding)
    truths = [text for _, text in made]
    ours = text_figures(truths, [line.text for line in chosen])
    plain = text_figures(truths, [line.text for line in greedy])
    strings = digit_strings(STRINGS, 1000 + seed, 8, 2)
    read: list[Line] = load_reader(task="digits").read([grey for grey, _ in strings])
    digits = text_figures([text for _, text in strings], [line.text for line in read])
    grey, texts = letter(seed)
    page = read_page(grey, reader=reader, given=find_page(grey))
    sure = calibration_figures(truths, chosen)["ece"]
    return Section(
        title="Handwriting",
        question="What does it say?",
        what=f"{LINES} lines and {STRINGS} digit strings that the stroke generator writes in as many hands, "
        "and one page whose lines are found without a model. CER: wrong characters per true one. Words that "
        "nobody wrote: a character model of real letters helps less here than on real ones.",
        stats=(
            Stat(percent(ours["cer"]), "characters wrong", ours=True),
            Stat(percent(plain["cer"]), "without the character model"),
            Stat(percent(digits["string_accuracy"], 0), "of digit strings read exactly"),
            Stat(f"{len(page.lines)} of {len(texts)}", "lines of the page found"),
            Stat(number(sure, 3), "calibration error of characters"),
        ),
        head=HEAD,
        rows=[
            row("lines, with the character model", ours),
            row("lines, best label of each frame", plain),
            row("digit strings", digits),
        ],
        ours="lines, with the character model",
        compare="lines, best label of each frame",
        pictures=[
            (overlaid(grey, page.lines), "Lines of a generated page; green is sure, red is not."),
            (listed([grey for grey, _ in made[:6]], chosen[:6]), "Six of the lines and what was read."),
        ],
        command="recurra ocr read page.jpg --task page --format alto -o page.xml",
        links=(
            ("Handwriting in the README", "README.md#handwriting"),
            ("Card of the weights", "vision/ocr/weights/README.md"),
        ),
    )


def row(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    return (name, percent(figures["cer"]), percent(figures["wer"]), percent(figures["string_accuracy"], 0))


def grade(confidence: float) -> str:
    """How sure: a class of the style sheet, whose colour follows light and dark."""
    return "r-sure" if confidence >= SURE else "r-doubt" if confidence >= UNSURE else "r-poor"


def on_paper(confidence: float) -> str:
    """The same as a colour for lines drawn over a picture of paper, which is light in every mode."""
    return {"r-sure": OURS, "r-doubt": DOUBT, "r-poor": POOR}[grade(confidence)]


def embedded(grey: np.ndarray, widest: int = 1100) -> tuple[str, float]:
    """A picture as a data address, and how much it was reduced."""
    import cv2

    factor = min(1.0, widest / grey.shape[1])
    if factor < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode(), factor


def mean_confidence(line: Any) -> float:
    """Mean confidence of a line's characters; 0 for an empty one."""
    return float(np.mean([char.confidence for char in line.chars])) if line.chars else 0.0


def overlaid(grey: np.ndarray, lines: Sequence[Any], *, opens: bool = False) -> str:
    """The page with an outline and a number around every line, as one SVG.

    Args:
        opens: a line that is clicked, or chosen by keyboard, opens the element `line-<number>`.
    """
    address, factor = embedded(grey)
    h, w = (round(size * factor) for size in grey.shape)
    shapes = []
    for number_, line in enumerate(lines, 1):
        points = " ".join(f"{x * factor:.0f},{y * factor:.0f}" for x, y in line.polygon)
        tone = on_paper(mean_confidence(line))
        x, y = line.polygon[0] if line.polygon else (0, 0)
        left, wide = max(x * factor - 26, 2), 12 + 8 * len(str(number_))
        label = html.escape(f"line {number_}: {line.text}", quote=True)
        stop = 0 if number_ == 1 else -1  # the arrows go on from the first
        role = f'data-opens="line-{number_}" tabindex="{stop}" role="button" aria-label="{label}" ' * opens
        shapes.append(
            f'<polygon {role}points="{points}" fill="{tone}" fill-opacity=".06" stroke="{tone}" '
            f'stroke-width="2"><title>{html.escape(line.text)}</title></polygon>'
            f'<rect x="{left:.0f}" y="{y * factor + 1:.0f}" width="{wide}" height="18" rx="3" fill="{tone}"/>'
            f'<text x="{left + wide / 2:.0f}" y="{y * factor + 15:.0f}" font-size="13" text-anchor="middle" '
            f'fill="#fff" aria-hidden="true">{number_}</text>'
        )
    role = "group" if opens else "img"
    return (
        f'<svg class="r-seen" viewBox="0 0 {w} {h}" role="{role}" aria-label="the page with its {len(lines)} '
        f'lines"><image href="{address}" width="{w}" height="{h}"/>{"".join(shapes)}</svg>'
    )


def aligned(grey: np.ndarray, line: Any) -> str:
    """The picture of a line with the edges of its characters, each under its place."""
    address, factor = embedded(grey, 900)
    h, w = (round(size * factor) for size in grey.shape)
    marks = []
    for char in line.chars:
        a, b = char.x0_px * factor, char.x1_px * factor
        tone = on_paper(char.confidence)
        marks.append(f'<path d="M{a:.1f} 0V{h}M{b:.1f} 0V{h}" stroke="{tone}" stroke-width="1"/>')
        marks.append(
            f'<text class="{grade(char.confidence)}" x="{(a + b) / 2:.1f}" y="{h + 15}" font-size="14" '
            f'text-anchor="middle" fill="currentColor">{html.escape(char.text)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {w} {h + 20}" role="img" aria-label="characters of the line and their places" '
        f'style="width:100%;max-width:{w}px;height:auto"><image href="{address}" width="{w}" '
        f'height="{h}"/>{"".join(marks)}</svg>'
    )


def spelled(line: Any) -> str:
    """A line's text, each character in the colour of its confidence."""
    parts = [
        f'<span class="{grade(char.confidence)}" title="{char.confidence:.2f}">'
        f"{html.escape(char.text)}</span>"
        for char in line.chars
    ]
    return f'<span class="r-read">{"".join(parts) or "<i>nothing was read</i>"}</span>'


def listed(greys: Sequence[np.ndarray], lines: Sequence[Any]) -> str:
    """Pictures of lines with their text under each."""
    blocks = []
    for grey, line in zip(greys, lines, strict=True):
        address, _ = embedded(grey, 800)
        blocks.append(f'<div><img src="{address}" alt="a handwritten line">{spelled(line)}</div>')
    return f'<div class="r-lines">{"".join(blocks)}</div>'
