"""What is fitted on validation lines after training: confidences, and the weight of a character model."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from core.ctc.align import align
from core.ctc.char_lm import CharLM
from core.ctc.loss import frames_needed
from core.metrics.edit_distance import edit_distance
from core.weights import bundle as put_beside
from core.weights import find, load, save
from vision.ocr.confidence import Calibration, fit
from vision.ocr.decoding import Decoding
from vision.ocr.metrics import right_characters
from vision.ocr.reader import MODELS, Reader, likely, load_reader, tidy
from vision.ocr.sample import Sample

WEIGHTS = (0.3, 0.5, 0.7, 0.9, 1.2)
BONUSES = (0.8, 1.6, 2.4, 3.2)
"""The grid of alpha and beta."""


def log_probabilities(reader: Reader, samples: Sequence[Sample]) -> list[list[np.ndarray]]:
    """Log-probabilities of every sample in each of its views."""
    return reader.seen([sample.grey() for sample in samples])


def character_errors(
    reader: Reader, found: Sequence[list[np.ndarray]], truths: Sequence[str], decoding: Decoding
) -> int:
    """Errors of a decoding over lines."""
    total = 0
    for views, truth in zip(found, truths, strict=True):
        labels = tidy(reader.hypotheses(views, decoding, None)[0].labels, reader.codec)
        total += edit_distance(truth, reader.codec.decode(labels))
    return total


def fit_lm(
    reader: Reader, found: Sequence[list[np.ndarray]], truths: Sequence[str], lm: CharLM
) -> dict[str, float]:
    """Weight and bonus of fewest errors, the errors with them, and those without the model."""
    without = character_errors(reader, found, truths, Decoding())
    best: dict[str, float] = {"weight": 0.0, "bonus": 0.0, "errors": without, "without": without}
    for weight, bonus in product(WEIGHTS, BONUSES):
        decoding = Decoding(lm=lm, lm_weight=weight, lm_bonus=bonus)
        errors = character_errors(reader, found, truths, decoding)
        if errors < best["errors"]:
            best |= {"weight": weight, "bonus": bonus, "errors": errors}
    return best


def fit_confidence(reader: Reader, found: Sequence[list[np.ndarray]], truths: Sequence[str]) -> Calibration:
    """Calibration of the reader's own decoding."""
    chars: list[float] = []
    right: list[bool] = []
    lines: list[float] = []
    whole: list[bool] = []
    for views, truth in zip(found, truths, strict=True):
        log_probs = views[0]
        labels = tidy(reader.hypotheses(views, reader.decoding, None)[0].labels, reader.codec)
        text = reader.codec.decode(labels)
        lines.append(likely(views, labels))
        whole.append(text == truth)
        if labels and frames_needed(labels) <= len(log_probs):
            chars += align(log_probs, labels).mean.tolist()
            right += right_characters(truth, text)
    return Calibration(*fit(chars, right), *fit(lines, whole))


def bundle(
    run: str | Path,
    name: str,
    samples: Sequence[Sample],
    terms: str,
    *,
    lm: tuple[str, CharLM] | None = None,
    about: dict[str, str] | None = None,
    score: dict[str, float] | None = None,
    data: str | None = None,
    views: bool = False,
) -> Path:
    """Put a run's best weights beside the package in half precision, calibrated on `samples`.

    The shortcut head stays behind: reading does not use it.

    Args:
        lm: name of a file in `weights/` and its model; `read` uses it where it lowers the errors.
        about: further facts for the table, such as language and period.
        score: figures for the table of `recurra models`, measured on a test set.
        views: look at every line several times.
        data: what the training saw, in place of what its card says.
    """
    tensors, card = load(find(run))
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith("shortcut.")}
    words = {**card.extra, "shortcut": False, "views": views}
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.safetensors"
        halves = {key: t.half() if t.is_floating_point() else t for key, t in kept.items()}
        save(draft, halves, replace(card, extra=words))
        reader = load_reader(draft, card.task.partition(" ")[2], lm=False)
        found, truths = log_probabilities(reader, samples), [sample.text for sample in samples]
        if lm is not None:
            fitted = fit_lm(reader, found, truths, lm[1])
            if fitted["errors"] < fitted["without"]:
                words["lm"] = {"file": lm[0], **fitted}
                decoding = Decoding(lm=lm[1], lm_weight=fitted["weight"], lm_bonus=fitted["bonus"])
                reader = replace(reader, decoding=decoding)
        words["calibration"] = fit_confidence(reader, found, truths).as_dict()
        save(draft, kept, replace(card, extra=words))
        return put_beside(draft, MODELS, name, score=score, data=data, terms=terms, about=about)
