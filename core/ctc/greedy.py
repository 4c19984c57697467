"""The best label of each frame, equal neighbours merged, blanks dropped. Not always the best labelling."""

from typing import NamedTuple

import numpy as np


class Spans(NamedTuple):
    """Labels and where each was read; every array has one entry a label."""

    labels: np.ndarray
    start: np.ndarray
    """First frame."""
    end: np.ndarray
    """Frame after the last one."""
    peak: np.ndarray
    """Highest probability within the run."""
    mean: np.ndarray
    """Mean probability over the run."""


def greedy(log_probs: np.ndarray, blank: int = 0) -> Spans:
    """Greedy labelling of log-probabilities (T, V) with the frames and probabilities of each label.

    Raises:
        ValueError: not a matrix of at least one column.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or not log_probs.shape[1]:
        raise ValueError(f"greedy expects log-probabilities (T, V), got {log_probs.shape}")
    best = log_probs.argmax(1)
    if not len(best):
        none = np.zeros(0)
        return Spans(none.astype(np.int64), none.astype(np.int64), none.astype(np.int64), none, none)
    edges = np.flatnonzero(np.diff(best)) + 1
    start, end = np.r_[0, edges], np.r_[edges, len(best)]
    kept = best[start] != blank
    start, end = start[kept], end[kept]
    runs = np.exp(log_probs[np.arange(len(best)), best])
    peak = np.array([runs[a:b].max() for a, b in zip(start, end, strict=True)])
    mean = np.array([runs[a:b].mean() for a, b in zip(start, end, strict=True)])
    return Spans(best[start], start, end, peak, mean)
