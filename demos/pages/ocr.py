"""What does it say? Drop an image, choose an example or write with the mouse: boxes, text, confidences."""

import html
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from core.errors import DataError
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row
from demos.sections.ocr import aligned, listed, mean_confidence, overlaid, spelled
from demos.uploads import own_folder, said, uploaded
from vision.ocr.answer import Page
from vision.ocr.crop import cut_line
from vision.ocr.formats import SUFFIXES, written
from vision.ocr.formats.pdf import to_pdf
from vision.ocr.image import read_grey
from vision.ocr.predict import Reader, load_reader, read_page
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
MODELS = ("with the character model", "without")
TRUTH = Path("ground-truth")
"""Where corrected lines are kept, from where the page was started."""
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
    path: str | None, changed_ns: int, example: str, seed: int, kind: str, lm: bool, alternatives: int
) -> tuple[Page, float]:
    """The reading and the seconds it took, kept while only the view changes."""
    return read(picture(path, changed_ns, example, seed), kind, lm, alternatives)


def read(grey: np.ndarray, kind: str, lm: bool, alternatives: int) -> tuple[Page, float]:
    """A picture read as a page, a line or digits."""
    begun = time.perf_counter()
    reader: Reader = load_reader(task="digits" if kind == "digits" else "lines", lm=lm)
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


def source(file: str | None, example: str, seed: float) -> tuple[str | None, int, str, int]:
    """What was chosen, in words that tell one choice from another."""
    if file is None:
        return None, 0, example, int(seed or 0)
    path: Path = uploaded(file)
    return str(path), path.stat().st_mtime_ns, "", 0


def kind_of(file: str | None, example: str, kind: str) -> str:
    """What is on the picture: the example knows, a file is what was said."""
    return EXAMPLES[example] if file is None else KINDS[kind]


@said
def show(
    file: str | None, example: str, seed: float, kind: str, model: str, alternatives: float
) -> tuple[str, str, str, str]:
    """Stat row, picture with outlines, text in colours, plain text to copy."""
    chosen = source(file, example, seed)
    what = kind_of(file, example, kind)
    page, seconds = answer(*chosen, what, model == MODELS[0], int(alternatives))
    return views(picture(*chosen), page, seconds)


def views(grey: np.ndarray, page: Page, seconds: float) -> tuple[str, str, str, str]:
    """What the page shows of a reading."""
    sure = [char.confidence for line in page.lines for char in line.chars]
    figures = [
        Stat(f"{np.mean(sure):.0%}" if sure else "-", "mean confidence of characters", ours=True),
        Stat(str(len(page.lines)), "line" if len(page.lines) == 1 else "lines"),
        Stat(str(sum(c < 0.6 for c in sure)), "characters that deserve a look"),
        Stat(f"{1000 * seconds:.0f} ms", "on this machine"),
    ]
    if len(page.lines) == 1:
        main = listed([grey], page.lines)
    else:
        main = overlaid(grey, page.lines)
    return stat_row(figures), main, table(grey, page), page.text


def table(grey: np.ndarray, page: Page) -> str:
    """Every line with its confidence, its characters in colours, other readings, and where they stand."""
    if not page.lines:
        return "<p>There is no ink on this page.</p>"
    rows = []
    for number, line in enumerate(page.lines, 1):
        others = [text for text, _ in line.alternatives if text != line.text][:3]
        beside = f"<br><small>or: {html.escape(' | '.join(others))}</small>" if others else ""
        rows.append(
            f"<tr><td>{number}</td><td>{spelled(line)}{beside}"
            f"<details><summary>where each character stands</summary>{aligned(cut_line(grey, line), line)}"
            "</details></td>"
            f"<td style='text-align:right'>{mean_confidence(line):.0%}</td></tr>"
        )
    head = "<tr><th>line</th><th>text</th><th>confidence</th></tr>"
    return f"<table style='width:100%'>{head}{''.join(rows)}</table>"


@said
def download(
    file: str | None, example: str, seed: float, kind: str, model: str, alternatives: float, form: str
) -> str:
    """The reading as a file in a format."""
    what = kind_of(file, example, kind)
    page, _ = answer(*source(file, example, seed), what, model == MODELS[0], int(alternatives))
    folder = own_folder()
    target = folder / f"reading-{form}{SUFFIXES[form]}"
    if form == "pdf":
        target.write_bytes(to_pdf([page], picture(*source(file, example, seed)), [None]))
    else:
        target.write_text(written(page, form), encoding="utf-8")
    return str(target)


@said
def keep(
    file: str | None, example: str, seed: float, kind: str, model: str, alternatives: float, corrected: str
) -> tuple[str, str]:
    """The corrected lines as ground truth: pictures with .gt.txt in a folder that `fine-tune` reads."""
    what = kind_of(file, example, kind)
    chosen = source(file, example, seed)
    page, _ = answer(*chosen, what, model == MODELS[0], int(alternatives))
    texts = corrected.splitlines()
    if len(texts) != len(page.lines):
        raise DataError(f"The page has {len(page.lines)} lines, the text {len(texts)}; keep a line a line.")
    grey = picture(*chosen)
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
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(folder / f"{name}.png")
    (folder / f"{name}.gt.txt").write_text(f"{text}\n", encoding="utf-8")


@said
def written_by_hand(sketch: Any, kind: str, model: str) -> tuple[str, str, str, str]:
    """What was written with the mouse, read as a line or as digits."""
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
    page, seconds = read(grey, "digits" if kind == "digits" else "lines", model == MODELS[0], 3)
    return views(grey, page, seconds)


def build() -> gr.Blocks:
    """The page."""
    names = list(EXAMPLES)
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
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                main = gr.HTML(elem_id="page")
                text = gr.HTML(elem_id="lines")
                with gr.Accordion("Text to copy or correct", open=False):
                    plain = gr.Textbox(show_label=False, label="Text", lines=8, elem_id="text")
                    learn = gr.Button("Keep the corrected lines as ground truth")
                    kept = gr.Textbox(label="Kept", interactive=False)
                    packed = gr.File(label="The lines as a zip", interactive=False)
                with gr.Accordion("Download", open=False):
                    form = gr.Dropdown(list(SUFFIXES), value="alto", label="Format")
                    make = gr.Button("Make the file")
                    result = gr.File(label="File", interactive=False)
                with gr.Accordion("Write with the mouse", open=False):
                    pad = gr.Sketchpad(
                        label="A line, or digits", height=220, canvas_size=(900, 200), type="numpy"
                    )
                    go = gr.Button("Read it")
        inputs = [file, example, seed, kind, model, others]
        outputs = [figures, main, text, plain]
        page.load(show, inputs, outputs, api_visibility="private", show_progress="minimal")
        gr.on(
            [c.change for c in inputs],
            show,
            inputs,
            outputs,
            api_name="read",
            trigger_mode="always_last",
            show_progress="minimal",
            concurrency_id="ocr",
        )
        make.click(download, [*inputs, form], result, api_name="download", show_progress="minimal")
        learn.click(keep, [*inputs, plain], [kept, packed], api_name="keep", show_progress="minimal")
        go.click(written_by_hand, [pad, kind, model], outputs, api_name="write", show_progress="minimal")
    return page
