"""Figures of a pen's weights on stroke files with their texts; one path with what `read_pen` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.report import percent, table
from vision.ocr.codec import clean
from vision.ocr.metrics import text_figures
from vision.ocr.pen.stream import read_pens
from vision.ocr.pen.strokes import Ink, read_ink

PROTOCOL = (
    "Every stroke file with a text beside it is scored, read by the best labels; CER and WER are micro "
    "averages on NFC text with single spaces; a file that cannot be read counts as an empty answer. "
    "Intervals: 95 %, drawn over inks."
)


def evaluate_pens(data: Sequence[str | Path], weights: str | Path | None = None) -> dict[str, Any]:
    """Report on stroke files and folders: n, model, no baselines, items in the order of the names, protocol.

    Raises:
        DataError: no file has a text beside it.
        WeightsError: the weights are of another task.
    """
    inks: list[Ink | None] = []
    items: list[dict[str, Any]] = []
    for source in data:
        path = Path(source)
        for file in sorted(path.rglob("*.csv")) if path.is_dir() else [path]:
            said = file.with_suffix(".txt")
            if not said.is_file():
                continue
            item: dict[str, Any] = {"image": file.name}
            item["truth"] = clean(said.read_text(encoding="utf-8-sig", errors="replace"))
            try:
                inks.append(read_ink(file)[0])
            except DataError as error:
                inks.append(None)
                item["error"] = str(error)
            items.append(item)
    if not items:
        raise DataError("there is no stroke file with a text beside it in these files.")
    told = iter(read_pens([ink for ink in inks if ink is not None], weights))
    for ink, item in zip(inks, items, strict=True):
        item["text"] = "" if ink is None else next(told)
    figures = text_figures([item["truth"] for item in items], [item["text"] for item in items])
    return {"n": len(items), "model": figures, "baselines": {}, "items": items, "protocol": PROTOCOL}


def report(data: Sequence[str], weights: str | None) -> tuple[dict[str, Any], list[str]]:
    """The report, and the lines that people see."""
    found = evaluate_pens(data, weights)
    told = found["model"]
    span = f"{percent(told['cer_low'])} to {percent(told['cer_high'])}"
    row = [
        str(found["n"]),
        percent(told["string_accuracy"]),
        percent(told["cer"]),
        span,
        percent(told["wer"]),
    ]
    return found, table(["inks", "exact", "CER", "95 %", "WER"], [row])
