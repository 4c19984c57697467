"""Read handwriting: lines, digit strings and pages, with confidences.

Public names are imported on first use, so `import vision.ocr` costs nothing.
"""

from importlib import import_module
from typing import Any

from core.domains import Domain

DOMAIN = Domain(
    name="ocr",
    summary="Read handwriting from pages, lines and digit strings.",
    commands="vision.ocr.cli:app",
    bench=("vision.ocr.bench",),
    title="Handwriting",
    upload_mb=64,
)

PUBLIC = {
    "Char": "answer",
    "Decoding": "decode",
    "Line": "answer",
    "Page": "answer",
    "evaluate": "evaluate",
    "evaluate_pages": "evaluate",
    "find_page": "page",
    "load_reader": "predict",
    "read_line": "predict",
    "read_lines": "predict",
    "read_page": "predict",
    "train": "train",
}
__all__ = ["DOMAIN", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
    globals()[name] = found  # a module of the same name must not hide it
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
