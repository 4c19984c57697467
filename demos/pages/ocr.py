"""What does it say? Drop an image, choose an example or write with the mouse: boxes, text, confidences."""

import html
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from core.bundled import bundled
from core.errors import DataError
from core.report import percent
from demos.answering import answers
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row
from demos.progress import stands
from demos.sections.ocr import aligned, listed, mean_confidence, overlaid, spelled
from demos.theme import sheet
from demos.uploads import own_folder, said, uploaded
from vision.ocr.answer import Page
from vision.ocr.crop import cut_line
from vision.ocr.foreign import KrakenReader, is_kraken, kraken_reader
from vision.ocr.formats import SUFFIXES, written
from vision.ocr.formats.pdf import to_pdf
from vision.ocr.image import read_grey
from vision.ocr.predict import read_page
from vision.ocr.reader import Reader, load_reader
from vision.ocr.sources import pictures
from vision.ocr.synth.writing import digit_strings, letter, lines

HEADLINE = Headline(
    weights="ocr-lines",
    figure="cer_testaments",
    shown="{:.1%} of characters wrong",
    against="cer_testaments_without_lm",
    note="without the character model: {:.1%}, on wills in hands that no training saw",
)
EXAMPLES = {"A letter": "page", "A line": "lines", "An amount": "digits"}
KINDS = {"a page": "page", "one line": "lines", "digits": "digits"}
OF_TASK = "those of the task"
MODELS = ("with the character model", "without")
TRUTH = Path("ground-truth")
"""Where corrected lines are kept, from where the page was started."""
TAKE_THE_BRUSH = """() => {
  const take = () => {
    const brush = document.querySelector('#pad button[aria-label="Brush"]');
    if (brush) brush.click();
    else setTimeout(take, 100);
  };
  setTimeout(take, 300);
}"""
"""The pad begins without a tool; the button comes when the pad has been drawn."""
LARGEST = 40_000_000
"""Pixels that this page takes."""


@once
def picture(path: str | None, changed_ns: int, example: str, seed: int) -> np.ndarray:
    """Grey pixels of a file, or of a generated example without one."""
    if path is not None:
        grey = next(iter(pictures(path))).grey  # the first page of a PDF or TIFF
        if grey.size > LARGEST:
            raise DataError(f"The image has {grey.size:,} pixels; this page takes {LARGEST:,}.")
        return grey
    if EXAMPLES[example] == "page":
        return letter(seed)[0]
    make = lines if EXAMPLES[example] == "lines" else digit_strings
    return make(1, 5000 + seed)[0][0]


@once
def answer(
    path: str | None,
    changed_ns: int,
    example: str,
    seed: int,
    kind: str,
    lm: bool,
    alternatives: int,
    weights: str | None,
) -> tuple[Page, float]:
    """The reading and the seconds it took, kept while only the view changes."""
    return read(picture(path, changed_ns, example, seed), kind, lm, alternatives, weights)


def read(
    grey: np.ndarray, kind: str, lm: bool, alternatives: int, weights: str | None = None
) -> tuple[Page, float]:
    """A picture read as a page, a line or digits."""
    begun = time.perf_counter()
    stands(0.1, "reading")
    reader = reader_of(weights, "digits" if kind == "digits" else "lines", lm)
    own = reader.decoding
    decoding = replace(own, alternatives=alternatives + 1)
    if kind == "page":
        found = read_page(grey, reader=reader, decoding=decoding)
    else:
        h, w = grey.shape
        line = reader.read([grey], decoding)[0]
        corners = ((0.0, 0.0), (w - 1.0, 0.0), (w - 1.0, h - 1.0), (0.0, h - 1.0))
        line = type(line)(**{**vars(line), "polygon": corners, "name": "line_1"})
        found = Page("image", w, h, (line,))
    return found, time.perf_counter() - begun


def reader_of(weights: str | None, task: str, lm: bool) -> Reader | KrakenReader:
    """Weights of ours, or a recogniser of kraken, which reads without a character model."""
    if weights is not None and is_kraken(Path(weights)):
        return kraken_reader(weights)[0]
    return load_reader(weights, task, lm=lm)


def source(file: str | None, example: str, seed: float) -> tuple[str | None, int, str, int]:
    """What was chosen, in words that tell one choice from another."""
    if file is None:
        return None, 0, example, int(seed or 0)
    path: Path = uploaded(file)
    return str(path), path.stat().st_mtime_ns, "", 0


def kind_of(file: str | None, example: str, kind: str) -> str:
    """What is on the picture: the example knows, a file is what was said."""
    return EXAMPLES[example] if file is None else KINDS[kind]


def weights_of(name: str, own: str | None, what: str) -> str | None:
    """What reads: a visitor's own weights, those that were chosen, or None for those of the task.

    Raises:
        DataError: weights for lines cannot read digits, nor the other way round.
    """
    if own is not None:
        return str(uploaded(own))
    if name == OF_TASK:
        return None
    task = "ocr digits" if what == "digits" else "ocr lines"
    if next(about["task"] for about in bundled() if about["name"] == name) != task:
        raise DataError(f"{name} is for another task than {task}: choose it, or what the image shows.")
    return name


def reading(
    file: str | None,
    example: str,
    seed: float,
    kind: str,
    model: str,
    alternatives: float,
    weights: str,
    own: str | None,
) -> tuple[np.ndarray, Page, float]:
    """The picture of the controls, what it says, and the seconds that took."""
    chosen = source(file, example, seed)
    what = kind_of(file, example, kind)
    found = weights_of(weights, own, what)
    page, seconds = answer(*chosen, what, model == MODELS[0], int(alternatives), found)
    return picture(*chosen), page, seconds


@said
def show(
    file: str | None,
    example: str,
    seed: float,
    kind: str,
    model: str,
    alternatives: float,
    weights: str,
    own: str | None,
) -> tuple[str, str, str, str]:
    """Stat row, picture with outlines, text in colours, plain text to copy."""
    return views(*reading(file, example, seed, kind, model, alternatives, weights, own))


def views(grey: np.ndarray, page: Page, seconds: float) -> tuple[str, str, str, str]:
    """What the page shows of a reading."""
    sure = [char.confidence for line in page.lines for char in line.chars]
    figures = [
        Stat(percent(np.mean(sure) if sure else None, 0), "mean confidence of characters", ours=True),
        Stat(str(len(page.lines)), "line" if len(page.lines) == 1 else "lines"),
        Stat(str(sum(c < 0.6 for c in sure)), "characters that deserve a look"),
        Stat(f"{1000 * seconds:.0f} ms", "on this machine"),
    ]
    if len(page.lines) == 1:
        main = listed([grey], page.lines)
    else:
        main = overlaid(grey, page.lines, opens=True)
    return stat_row(figures), main, table(grey, page), page.text


def table(grey: np.ndarray, page: Page) -> str:
    """Every line with its confidence, its characters in colours, other readings, and where they stand."""
    if not page.lines:
        return "<p>There is no ink on this page.</p>"
    rows = []
    for number, line in enumerate(page.lines, 1):
        others = [text for text, _ in line.alternatives if text != line.text][:3]
        beside = f"<small>or: {html.escape(' | '.join(others))}</small>" if others else ""
        rows.append(
            f'<tr><th scope="row">{number}</th><td class="r-text">{spelled(line)}{beside}'
            f'<details id="line-{number}"><summary>where each character stands</summary>'
            f"{aligned(cut_line(grey, line), line)}</details></td>"
            f"<td>{percent(mean_confidence(line), 0)}</td></tr>"
        )
    names = '<th scope="col">line</th><th scope="col" class="r-text">text</th><th scope="col">sure</th>'
    return (
        '<div class="r-wide" tabindex="0" role="region" aria-label="Lines and what was read">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


@said
def download(
    file: str | None,
    example: str,
    seed: float,
    kind: str,
    model: str,
    alternatives: float,
    weights: str,
    own: str | None,
    form: str,
) -> str:
    """The reading as a file in a format."""
    grey, page, _ = reading(file, example, seed, kind, model, alternatives, weights, own)
    folder = own_folder()
    target = folder / f"reading-{form}{SUFFIXES[form]}"
    if form == "pdf":
        target.write_bytes(to_pdf([page], grey, [None]))
    else:
        target.write_text(written(page, form), encoding="utf-8")
    return str(target)


@said
def keep(
    file: str | None,
    example: str,
    seed: float,
    kind: str,
    model: str,
    alternatives: float,
    weights: str,
    own: str | None,
    corrected: str,
) -> tuple[str, str]:
    """The corrected lines as ground truth: pictures with .gt.txt in a folder that `fine-tune` reads."""
    grey, page, _ = reading(file, example, seed, kind, model, alternatives, weights, own)
    texts = corrected.splitlines()
    if len(texts) != len(page.lines):
        raise DataError(f"The page has {len(page.lines)} lines, the text {len(texts)}; keep a line a line.")
    folder = TRUTH / time.strftime("%Y%m%d-%H%M%S")
    kept = 0
    for number, (line, text) in enumerate(zip(page.lines, texts, strict=True), 1):
        if text.strip():
            save_pair(folder, f"{number:04d}", cut_line(grey, line), text.strip())
            kept += 1
    if not kept:
        raise DataError("There is no text to keep.")
    packed = shutil.make_archive(str(own_folder() / "ground-truth"), "zip", folder)
    return f"{kept} lines are in {folder}: recurra ocr fine-tune {TRUTH}/* --weights ocr-lines", packed


def save_pair(folder: Path, name: str, grey: np.ndarray, text: str) -> None:
    """A line as `name.png` with `name.gt.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(folder / f"{name}.png")
    (folder / f"{name}.gt.txt").write_text(f"{text}\n", encoding="utf-8")


@said
def written_by_hand(sketch: Any, what: str) -> tuple[str, str]:
    """What was written with the mouse, as an image of the visitor's own, and what it shows."""
    drawn = sketch.get("composite") if isinstance(sketch, dict) else sketch
    if drawn is None:
        raise DataError("Write something first.")
    grey = read_grey(np.asarray(drawn))
    ink = grey < 128
    if not ink.any():
        raise DataError("Write something first.")
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    pad = 12
    grey = grey[max(0, rows[0] - pad) : rows[-1] + pad, max(0, columns[0] - pad) : columns[-1] + pad]
    path = own_folder() / "written.png"
    Image.fromarray(grey).save(path)
    return str(path), what


def build() -> gr.Blocks:
    """The page."""
    names = list(EXAMPLES)
    readers = [about["name"] for about in bundled() if about["task"] in ("ocr lines", "ocr digits")]
    models = [OF_TASK, *readers]
    with gr.Blocks(title="Recurra: handwriting", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>What does it say?</h1><p class='r-lead'>Drop a page, a line or an amount (PNG, JPEG, WebP, "
            "TIFF, PDF), choose an example, or write with the mouse: lines, text, and how sure each "
            "character is.</p>",
            padding=False,
        )
        with gr.Row():
            with gr.Column(elem_classes="r-left"):
                example = gr.Dropdown(names, value=names[0], label="Example")
                file = gr.File(label="Or your own image", elem_id="image", type="filepath", height=120)
                kind = gr.Radio(list(KINDS), value="a page", label="What the image shows")
                model = gr.Radio(list(MODELS), value=MODELS[0], label="Decoding")
                with gr.Accordion("More settings", open=False):
                    seed = gr.Number(value=0, precision=0, label="Number of the example", minimum=0)
                    others = gr.Slider(0, 5, value=2, step=1, label="Other readings to show")
                    weights = gr.Dropdown(models, value=OF_TASK, label="Weights")
                    own = gr.File(
                        label="Your own weights",
                        elem_id="weights",
                        type="filepath",
                        height=120,
                    )
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                main = gr.HTML(elem_id="page", js_on_load=sheet("pick.js"))
                text = gr.HTML(elem_id="lines")
                with gr.Accordion("Text to copy or correct", open=False):
                    plain = gr.Textbox(show_label=False, label="Text", lines=8, elem_id="text")
                    learn = gr.Button("Keep the corrected lines as ground truth")
                    kept = gr.Textbox(label="Kept", interactive=False)
                    packed = gr.File(label="The lines as a zip", interactive=False)
                with gr.Accordion("Download", open=False):
                    form = gr.Dropdown(list(SUFFIXES), value="alto", label="Format")
                    make = gr.Button("Make the file")
                    result = gr.File(label="File", interactive=False, elem_id="made")
                with gr.Accordion("Write with the mouse", open=False) as writing:
                    pad = gr.Sketchpad(
                        label="A line, or digits",
                        height=220,
                        canvas_size=(900, 200),
                        type="numpy",
                        elem_id="pad",
                        brush=gr.Brush(default_size=7, colors=["#000000"], color_mode="fixed"),
                    )
                    what = gr.Radio(
                        ["one line", "digits"], value="one line", label="What you write", elem_id="written"
                    )
                    go = gr.Button("Read it")
        inputs = [file, example, seed, kind, model, others, weights, own]
        outputs = [figures, main, text, plain]
        answers(page, show, inputs, outputs, [c.change for c in inputs], word="ocr", name="read")
        make.click(download, [*inputs, form], result, api_name="download", concurrency_id="ocr")
        learn.click(keep, [*inputs, plain], [kept, packed], api_name="keep", concurrency_id="ocr")
        writing.expand(None, js=TAKE_THE_BRUSH, api_visibility="private")
        go.click(
            written_by_hand,
            [pad, what],
            [file, kind],
            api_name="write",
            show_progress="minimal",
            concurrency_id="ocr",
        )
    return page
