"""Forced alignment: the most probable alignment of given labels, and the frames of each of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.ctc.loss import frames_needed
from core.kernels.jit import compiled


class Alignment(NamedTuple):
    """Labels laid onto frames."""

    path: np.ndarray
    """(T,) label of each frame."""
    score: float
    """Log-probability of the path."""
    start: np.ndarray
    """First frame of each label."""
    end: np.ndarray
    """Frame after its last one."""
    mean: np.ndarray
    """Mean probability of each label over its frames."""


@compiled
def viterbi(log_probs: np.ndarray, labels: np.ndarray, blank: int) -> np.ndarray:
    """The state of each frame on the best path; states are blank, label, blank, ..., blank."""
    T, S = len(log_probs), 2 * len(labels) + 1
    score = np.full((T, S), -np.inf)
    back = np.zeros((T, S), np.int64)
    score[0, 0] = log_probs[0, blank]
    if S > 1:
        score[0, 1] = log_probs[0, labels[0]]
    for t in range(1, T):
        for s in range(S):
            best, origin = score[t - 1, s], s
            if s > 0 and score[t - 1, s - 1] > best:
                best, origin = score[t - 1, s - 1], s - 1
            skips = s > 1 and s % 2 == 1 and labels[s // 2] != labels[s // 2 - 1]
            if skips and score[t - 1, s - 2] > best:
                best, origin = score[t - 1, s - 2], s - 2
            label = blank if s % 2 == 0 else labels[s // 2]
            score[t, s] = best + log_probs[t, label]
            back[t, s] = origin
    states = np.zeros(T, np.int64)
    states[T - 1] = S - 1
    if S > 1 and score[T - 1, S - 2] > score[T - 1, S - 1]:
        states[T - 1] = S - 2
    for t in range(T - 1, 0, -1):
        states[t - 1] = back[t, states[t]]
    return states


def align(log_probs: np.ndarray, labels: Sequence[int], blank: int = 0) -> Alignment:
    """The best alignment of labels (L,) with log-probabilities (T, V).

    Raises:
        ValueError: more labels than the frames can hold, or a label outside the alphabet.
    """
    matrix = np.ascontiguousarray(log_probs, dtype=np.float64)
    given = np.asarray(labels, dtype=np.int64).reshape(-1)
    if matrix.ndim != 2 or not len(matrix):
        raise ValueError(f"align expects log-probabilities (T, V) of one frame or more, got {matrix.shape}")
    needed = frames_needed(given.tolist())
    if needed > len(matrix):
        raise ValueError(f"{len(given)} labels need {needed} frames, there are {len(matrix)}")
    if len(given) and (given.min() < 0 or given.max() >= matrix.shape[1] or (given == blank).any()):
        raise ValueError(f"labels must be in 0..{matrix.shape[1] - 1} and not the blank {blank}")
    states = viterbi(matrix, given, blank)
    path = np.where(states % 2 == 1, np.append(given, blank)[states // 2], blank)
    frames = np.arange(len(matrix))
    chosen = matrix[frames, path]
    start, end, mean = (np.zeros(len(given), kind) for kind in (np.int64, np.int64, np.float64))
    for place in range(len(given)):
        own = frames[states == 2 * place + 1]
        start[place], end[place] = own[0], own[-1] + 1
        mean[place] = np.exp(chosen[own]).mean()
    return Alignment(path, float(chosen.sum()), start, end, mean)
