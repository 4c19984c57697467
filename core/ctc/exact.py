"""The exact log-probability of given labels by the forward recursion, and all labellings of small cases."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from core.kernels.jit import compiled


@compiled
def forward(log_probs: np.ndarray, labels: np.ndarray, blank: int) -> float:
    """log p(labels | log_probs (T, V)) over all alignments, -inf where there is none."""
    states = 2 * len(labels) + 1
    before = np.full(states, -np.inf)
    after = np.full(states, -np.inf)
    if len(log_probs) == 0:
        return 0.0 if len(labels) == 0 else -np.inf
    before[0] = log_probs[0, blank]
    if len(labels):
        before[1] = log_probs[0, labels[0]]
    for t in range(1, len(log_probs)):
        for s in range(states):
            label = blank if s % 2 == 0 else labels[s // 2]
            total = before[s]
            if s > 0 and before[s - 1] > -np.inf:
                high, low = max(total, before[s - 1]), min(total, before[s - 1])
                total = high + np.log1p(np.exp(low - high))
            if s > 1 and s % 2 and labels[s // 2] != labels[s // 2 - 1] and before[s - 2] > -np.inf:
                high, low = max(total, before[s - 2]), min(total, before[s - 2])
                total = high + np.log1p(np.exp(low - high))
            after[s] = total + log_probs[t, label]
        before, after = after, before
    total = before[states - 1]
    if states > 1 and before[states - 2] > -np.inf:
        high, low = max(total, before[states - 2]), min(total, before[states - 2])
        total = high + np.log1p(np.exp(low - high))
    return total


def label_score(log_probs: np.ndarray, labels: Sequence[int], blank: int = 0) -> float:
    """log p(labels | log_probs (T, V)), -inf where the frames do not suffice.

    Raises:
        ValueError: a label outside 0..V-1, or the blank among them.
    """
    matrix = np.ascontiguousarray(log_probs, dtype=np.float64)
    given = np.asarray(labels, dtype=np.int64).reshape(-1)
    if matrix.ndim != 2:
        raise ValueError(f"expected log-probabilities (T, V), got {matrix.shape}")
    if len(given) and (given.min() < 0 or given.max() >= matrix.shape[1] or (given == blank).any()):
        raise ValueError(f"labels must be in 0..{matrix.shape[1] - 1} and not the blank {blank}")
    return float(forward(matrix, given, blank))


def choose(log_probs: np.ndarray, choices: Sequence[Sequence[int]], blank: int = 0) -> list[float]:
    """log p of each of several labellings: the exact way to read one of a list."""
    return [label_score(log_probs, labels, blank) for labels in choices]


def collapse(path: Sequence[int], blank: int = 0) -> tuple[int, ...]:
    """An alignment as its labelling."""
    kept, last = [], None
    for label in path:
        if label != last and label != blank:
            kept.append(int(label))
        last = label
    return tuple(kept)


def every_labelling(log_probs: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """log p of every labelling of a few frames, by enumeration of V**T alignments: the definition."""
    frames, size = log_probs.shape
    total: dict[tuple[int, ...], float] = {}
    for path in alignments(frames, size):
        score = float(sum(log_probs[t, label] for t, label in enumerate(path)))
        labels = collapse(path, blank)
        total[labels] = float(np.logaddexp(total.get(labels, -np.inf), score))
    return total


def alignments(frames: int, size: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of `frames` labels."""
    return product(range(size), repeat=frames)
