"""Rows of different length inside compiled gated loops: rows lie sorted by falling length and drop out.

`ends` (B,) holds their lengths. Beyond them arrays over time are zero, so that the products over all tokens
after a loop see nothing there, and a state at the end is read where the row ended.
"""

import math

import numpy as np
import torch

from core.kernels.vector_math import compiled

SMALL = 1 << 13
"""Numbers in an array below which its alignment matters less than the time it takes to get it from torch."""


@compiled
def still_running(ends, rows, t):  # noqa: ANN001, ANN201
    """Rows that have a token t, going forward in time."""
    while rows > 0 and ends[rows - 1] <= t:
        rows -= 1
    return rows


@compiled
def begun(ends, rows, t):  # noqa: ANN001, ANN201
    """Rows that have a token t, going backward in time."""
    while rows < ends.size and ends[rows] > t:
        rows += 1
    return rows


def at_end(states: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """states (T + 1, B, D) before and after each token -> (B, D) after each row's last one, copied."""
    if whole(ends):
        return states[-1].copy()
    return states[ends, np.arange(len(ends))]


def whole(ends: np.ndarray) -> bool:
    """Whether all rows are as long as the first, which is as long as the sequence."""
    return not len(ends) or bool(ends[-1] == ends[0])


def empty_rows(like: np.ndarray, ends: np.ndarray, *shape: int) -> np.ndarray:
    """Room for something over time (T or T + 1, B, ..); zero where rows end early, before it is written."""
    room = empty(like, *shape)
    if not whole(ends):
        clear(room.reshape(shape[0], shape[1], -1), ends)
    return room


@compiled
def clear(room, ends):  # noqa: ANN001, ANN201
    """Zero in room (T, B, D) from the end of each row on."""
    time, rows, width = room.shape
    for t in range(time):
        for b in range(rows):
            if t >= ends[b]:
                out = room[t, b]
                for j in range(width):
                    out[j] = 0


@compiled
def lay_out(x, start, order, ends, tokens):  # noqa: ANN001, ANN201
    """Rows of x (B, T, D) in order, from a token on -> tokens (T', B', D), zero behind each end."""
    time, rows, width = tokens.shape
    for t in range(time):
        for b in range(rows):
            out = tokens[t, b]
            if t < ends[b]:
                source = x[order[b], start + t]
                for j in range(width):
                    out[j] = source[j]
            else:
                for j in range(width):
                    out[j] = 0


@compiled
def lay_back(tokens, start, order, ends, x):  # noqa: ANN001, ANN201
    """The way back: tokens (T', B', D) up to each row's end -> rows of x (B, T, D)."""
    _time, rows, width = tokens.shape
    for b in range(rows):
        for t in range(ends[b]):
            source, out = tokens[t, b], x[order[b], start + t]
            for j in range(width):
                out[j] = source[j]


@compiled
def clear_behind(x, order, ends):  # noqa: ANN001, ANN201
    """Zero in the rows of x (B, T, D) behind their ends."""
    _rows, time, width = x.shape
    for b in range(len(order)):
        for t in range(ends[b], time):
            out = x[order[b], t]
            for j in range(width):
                out[j] = 0


def empty(like: np.ndarray, *shape: int) -> np.ndarray:
    """An array of the same type; torch's memory starts at a cache line, numpy's does not."""
    if math.prod(shape) < SMALL:
        return np.empty(shape, like.dtype)
    return torch.empty(shape, dtype=torch.float32 if like.dtype == np.float32 else torch.float64).numpy()


def inside(ends: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Lengths of the rows that have a token in start .. stop, counted from there."""
    return np.minimum(ends[ends > start], stop) - start
