"""Figures of reading: error rates with intervals, calibration, lines of a page against their truth.

CER and WER are micro: all errors over all true characters (words between spaces), on NFC text with single
spaces. Lines of a page are boxes; a true and a found one match where their intersection over union is at
least 0.5, one to one, as many pairs as there can be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.metrics.bootstrap import ratio_interval
from core.metrics.edit_distance import edit_distance, matches
from vision.ocr.answer import Line
from vision.ocr.confidence import expected_calibration_error

IOU = 0.5
Box = tuple[int, int, int, int]


def text_figures(
    truths: Sequence[str], answers: Sequence[str], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, float | None]:
    """cer, wer, string_accuracy, each with `_low` and `_high` of a 95 % interval drawn over `groups`."""
    pairs = list(zip(truths, answers, strict=True))
    errors = [edit_distance(truth, answer) for truth, answer in pairs]
    words = [edit_distance(truth.split(), answer.split()) for truth, answer in pairs]
    right = [float(truth == answer) for truth, answer in pairs]
    owners = None if groups is None or len(set(groups)) < 2 else list(groups)
    figures: dict[str, float | None] = {}
    for name, above, below in (
        ("string_accuracy", right, [1.0] * len(pairs)),
        ("cer", errors, [len(truth) for truth in truths]),
        ("wer", words, [len(truth.split()) for truth in truths]),
    ):
        figures |= ratio_interval(above, below, owners, seed=seed).as_dict(name)
    return figures


def calibration_figures(truths: Sequence[str], lines: Sequence[Line]) -> dict[str, float]:
    """ece of characters (inserted ones are wrong, missing ones do not enter) and of whole lines."""
    confidence: list[float] = []
    right: list[bool] = []
    for truth, line in zip(truths, lines, strict=True):
        confidence += [char.confidence for char in line.chars]
        right += right_characters(truth, "".join(char.text for char in line.chars))
    whole = [line.text == truth for truth, line in zip(truths, lines, strict=True)]
    return {
        "ece": expected_calibration_error(confidence, right),
        "ece_lines": expected_calibration_error([line.confidence for line in lines], whole),
    }


def right_characters(truth: str, answer: str) -> list[bool]:
    """For each character of the answer whether an alignment with the fewest errors matches it."""
    right = [False] * len(answer)
    for i, j in matches(truth, answer):
        if i is not None and j is not None:
            right[j] = truth[i] == answer[j]
    return right


def overlaps(a: Sequence[Box], b: Sequence[Box]) -> np.ndarray:
    """Intersection over union of boxes x0, y0, x1, y1, (len(a), len(b))."""
    left = np.array(a, float).reshape(-1, 1, 4)
    right = np.array(b, float).reshape(1, -1, 4)
    low, high = np.maximum(left[..., :2], right[..., :2]), np.minimum(left[..., 2:], right[..., 2:])
    both = (high - low).clip(0).prod(-1)
    sizes = [(part[..., 2:] - part[..., :2]).clip(0).prod(-1) for part in (left, right)]
    return both / np.maximum(sizes[0] + sizes[1] - both, 1e-9)


def matched(a: Sequence[Box], b: Sequence[Box]) -> list[tuple[int, int]]:
    """Pairs of boxes that match, one to one."""
    if not len(a) or not len(b):
        return []
    from scipy.optimize import linear_sum_assignment

    overlap = overlaps(a, b)
    rows, columns = linear_sum_assignment(-(overlap * (overlap >= IOU)))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if overlap[i, j] >= IOU]


def page_figures(true: Sequence[Line], found: Sequence[Line]) -> dict[str, Any]:
    """Counts of a page: lines, found ones, matches, character errors (unmatched true lines as deletions)."""
    truth = [line for line in true if line.text.strip()]
    pairs = matched([line.box for line in truth], [line.box for line in found])
    read = {i: found[j].text for i, j in pairs}
    return {
        "lines": len(truth),
        "found": len(found),
        "matched": len(pairs),
        "characters": sum(len(line.text) for line in truth),
        "errors": sum(edit_distance(line.text, read.get(i, "")) for i, line in enumerate(truth)),
    }
