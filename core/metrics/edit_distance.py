"""Levenshtein distance, error rates of texts, and which characters stand for which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.kernels.jit import compiled


@compiled
def table(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of all prefixes, (len(a) + 1, len(b) + 1)."""
    d = np.empty((len(a) + 1, len(b) + 1), np.int32)
    for i in range(len(a) + 1):
        d[i, 0] = i
    for j in range(len(b) + 1):
        d[0, j] = j
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            change = d[i - 1, j - 1] + (1 if a[i - 1] != b[j - 1] else 0)
            d[i, j] = min(change, d[i - 1, j] + 1, d[i, j - 1] + 1)
    return d


def distances(truth: Sequence[Any], answer: Sequence[Any]) -> np.ndarray:
    """The table of prefix distances of two sequences of anything hashable."""
    known: dict[Any, int] = {}
    codes = [np.array([known.setdefault(x, len(known)) for x in part], np.int64) for part in (truth, answer)]
    return table(*codes)


def edit_distance(truth: Sequence[Any], answer: Sequence[Any]) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other."""
    return int(distances(truth, answer)[-1, -1])


def matches(truth: Sequence[Any], answer: Sequence[Any]) -> list[tuple[int | None, int | None]]:
    """An alignment with the fewest errors: pairs of places, None where one side has nothing."""
    d = distances(truth, answer)
    i, j = len(truth), len(answer)
    pairs: list[tuple[int | None, int | None]] = []
    while i or j:
        if i and j and d[i, j] == d[i - 1, j - 1] + (truth[i - 1] != answer[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and d[i, j] == d[i - 1, j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


@dataclass(frozen=True)
class ErrorRates:
    """Errors over a set, each rate micro: all errors over all characters (words), never a mean of lines."""

    lines: int
    exact: int
    character_errors: int
    characters: int
    word_errors: int
    words: int

    @property
    def cer(self) -> float:
        return rate(self.character_errors, self.characters)

    @property
    def wer(self) -> float:
        return rate(self.word_errors, self.words)

    @property
    def string_accuracy(self) -> float:
        return self.exact / self.lines if self.lines else float("nan")


def rate(errors: int, total: int) -> float:
    """Errors per true symbol; without any truth 0 when nothing was inserted, else infinite."""
    return errors / total if total else (float("inf") if errors else 0.0)


def error_rates(truths: Sequence[str], answers: Sequence[str]) -> ErrorRates:
    """Character and word errors (words are what spaces separate) of answers beside their truths.

    Raises:
        ValueError: not as many answers as truths.
    """
    if len(truths) != len(answers):
        raise ValueError(f"{len(truths)} truths and {len(answers)} answers")
    pairs = list(zip(truths, answers, strict=True))
    return ErrorRates(
        lines=len(pairs),
        exact=sum(truth == answer for truth, answer in pairs),
        character_errors=sum(edit_distance(truth, answer) for truth, answer in pairs),
        characters=sum(len(truth) for truth in truths),
        word_errors=sum(edit_distance(truth.split(), answer.split()) for truth, answer in pairs),
        words=sum(len(truth.split()) for truth in truths),
    )
