"""Generated sets on disk: pictures and the index that `train` and `evaluate` read."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import ConfigError, DataError, RecurraError
from core.files import write_text
from vision.ocr.synth import digits as digit_synth
from vision.ocr.synth import writing

SHOWN = 24
"""Examples on the sheet."""


def write_set(
    task: str,
    out: Path,
    count: int,
    digits: Path | None = None,
    part: str = "test",
    shortest: int = 2,
    longest: int = 10,
    seed: int = 0,
    *,
    texts: Sequence[str] = (),
    fonts: float = 0.0,
    show: bool = False,
) -> Path:
    """Write `count` generated examples into `out/images` and `out/index.csv`; gives the index.

    Digit strings have uniform lengths from `shortest` to `longest`. Without `digits` they are written in
    strokes of our own; else they come from the idx files there, of the last 5,000 digits for part "test".
    Lines have the words of `texts`, where there are any, and the share `fonts` of them is set in fonts.

    Raises:
        ConfigError: no such task or part, or lengths that contradict each other.
        DataError: the digits cannot be read.
        RecurraError: the folder cannot be written.
    """
    import cv2

    if task == "pen":
        return write_pens(out, count, seed)
    if task == "lines":
        made = writing.lines(count, seed, list(texts) or None, fonts)
    else:
        made = generate(task, count, digits, part, shortest, longest, seed)
    folder = Path(out) / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["image", "text"])
        for number, (grey, text) in enumerate(made):
            name = f"{number:05d}.png"
            (folder / name).write_bytes(cv2.imencode(".png", grey)[1].tobytes())
            rows.writerow([name, text])
    except OSError as error:
        raise RecurraError(f"{out}: cannot be written ({error.strerror}).") from error
    write_text(Path(out) / "index.csv", table.getvalue())
    if show:
        (Path(out) / "sheet.png").write_bytes(cv2.imencode(".png", sheet(made[:SHOWN]))[1].tobytes())
    return Path(out) / "index.csv"


def generate(
    task: str, count: int, digits: Path | None, part: str, shortest: int, longest: int, seed: int
) -> list[tuple[np.ndarray, str]]:
    """Grey pictures of digit strings and their texts."""
    if task != "digits":
        raise ConfigError(f"no task {task!r}; there are lines, digits, pen.")
    if shortest > longest:
        raise ConfigError(f"--shortest {shortest} is more than --longest {longest}.")
    if digits is None:
        return writing.digit_strings(count, seed, longest, shortest)
    images, labels = digit_synth.read_digits(digits)
    held = digit_synth.HELD_BACK
    if len(images) <= held:
        raise DataError(f"{digits}: {len(images)} digits; the last {held:,} are the test part.")
    if part not in ("train", "test"):
        raise ConfigError(f"--from is train or test, got {part!r}.")
    chosen = slice(-held, None) if part == "test" else slice(None, -held)
    return digit_synth.strings(images[chosen], labels[chosen], count, seed, longest, shortest)


def write_pens(out: Path, count: int, seed: int) -> Path:
    """Inks as CSV `t,x,y,down` with their text in a .txt beside each; gives the folder.

    Raises:
        RecurraError: the folder cannot be written.
    """
    from vision.ocr.pen.synth import inks

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecurraError(f"{out}: cannot be written ({error.strerror}).") from error
    for number, ink in enumerate(inks(count, seed)):
        rows = [f"{t:.4f},{x:.5f},{y:.5f},{int(down)}" for x, y, t, down in ink.points]
        write_text(out / f"{number:05d}.csv", "\n".join(["t,x,y,down", *rows]) + "\n")
        write_text(out / f"{number:05d}.txt", f"{ink.text}\n")
    return out


def sheet(made: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """Examples under each other."""
    width = max(grey.shape[1] for grey, _ in made)
    rows = [np.pad(grey, ((2, 6), (0, width - grey.shape[1])), constant_values=255) for grey, _ in made]
    return np.concatenate(rows)
