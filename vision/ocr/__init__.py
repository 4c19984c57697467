"""Read handwriting: lines, digit strings and pages, with confidences.

Public names are imported on first use, so `import vision.ocr` costs nothing.
"""

from core.domains import Domain
from core.lazy import lazy

DOMAIN = Domain(
    name="ocr",
    summary="Read handwriting from pages, lines and digit strings.",
    commands="vision.ocr.cli:app",
    bench=("vision.ocr.bench",),
    title="Handwriting",
    upload_mb=64,
)

PUBLIC = {
    "Char": ".answer",
    "Decoding": ".decoding",
    "Line": ".answer",
    "Page": ".answer",
    "PenStream": ".pen.stream",
    "Table": ".answer",
    "align": ".converting",
    "decode": ".stored",
    "evaluate": ".evaluation",
    "evaluate_pages": ".evaluation",
    "find_page": ".page",
    "fine_tune": ".finetune",
    "load_reader": ".reader",
    "read_document": ".predict",
    "read_line": ".predict",
    "read_lines": ".predict",
    "read_page": ".predict",
    "read_pen": ".pen.stream",
    "segment": ".segmentation.finder",
    "train": ".training",
}
__all__ = ["DOMAIN", *PUBLIC]
__getattr__, __dir__ = lazy(globals(), PUBLIC)
