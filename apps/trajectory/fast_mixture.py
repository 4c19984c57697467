"""`apps.trajectory.mixture` for one window at a time, compiled."""

import math
from typing import Any

import numpy as np

from apps.trajectory.measures import (
    BACK_STEPS,
    CANDIDATES,
    FINER_STEPS,
    FLOOR_M,
    LONG,
    ROUNDING,
    SHORT,
    SLOWEST_MPS,
    STILL,
    TURN_POINTS,
)
from core.kernels.jit import compiled

NEAREST, FURTHEST = BACK_STEPS
TINY = 1e-12


@compiled
def line_of(past: Any, end: Any, points: Any, place: Any, slope: Any) -> None:
    """Line through the last `points` of past[:end] (T, D): its end and its slope per step, (D,) each."""
    n = min(points, end)
    width = max((n * n * n - n) / 12, 1.0)
    for d in range(past.shape[1]):
        total, moment = 0.0, 0.0
        for i in range(n):
            p = past[end - n + i, d]
            total += p
            moment += (i - (n - 1) / 2) * p
        slope[d] = moment / width
        place[d] = total / n + slope[d] * (n - 1) / 2


@compiled
def answer_simply(past: Any, end: Any, dt: Any, lines: Any, out: Any) -> None:
    """The simple answers to past[:end] (T, D), counted from its last position, into out (4, steps, D).

    lines (2, 2, D): ends (from the last position) and slopes of the short and the long line.
    """
    steps, dims = out.shape[1], out.shape[2]
    last = past[end - 1]
    for k in range(steps):
        for d in range(dims):
            out[0, k, d] = (k + 1) * (last[d] - past[end - 2, d])
            out[1, k, d] = (k + 1) * lines[0, 1, d]
            out[2, k, d] = lines[1, 0, d] + (k + 1) * lines[1, 1, d]
            out[3, k, d] = out[0, k, d]
    if end < 3 or dims < 2 or dims > 3:
        return
    cross, dot = 0.0, 0.0
    first = max(end - 1 - TURN_POINTS, 0)
    for t in range(first, end - 2):
        bx, by = past[t + 1, 0] - past[t, 0], past[t + 1, 1] - past[t, 1]
        ax, ay = past[t + 2, 0] - past[t + 1, 0], past[t + 2, 1] - past[t + 1, 1]
        cross += bx * ay - by * ax
        dot += bx * ax + by * ay
    x, y = last[0] - past[end - 2, 0], last[1] - past[end - 2, 1]
    if math.sqrt(x * x + y * y) <= SLOWEST_MPS * dt:
        return
    rate = math.atan2(cross, dot)
    at_x, at_y = 0.0, 0.0
    for k in range(steps):
        c, s = math.cos(rate * (k + 1)), math.sin(rate * (k + 1))
        at_x += c * x - s * y
        at_y += s * x + c * y
        out[3, k, 0] = at_x
        out[3, k, 1] = at_y


@compiled
def lines_of(past: Any, end: Any, lines: Any) -> None:
    """Short and long line through past[:end] into lines (2, 2, D), their ends from the last position."""
    line_of(past, end, SHORT, lines[0, 0], lines[0, 1])
    line_of(past, end, end, lines[1, 0], lines[1, 1])
    for d in range(past.shape[1]):
        lines[0, 0, d] -= past[end - 1, d]
        lines[1, 0, d] -= past[end - 1, d]


@compiled
def mark(length: Any, scale: Any, dt: Any) -> Any:
    return math.log((length + FLOOR_M) / (scale * dt)) / 3


@compiled
def finer_of(lines: Any, drawn: Any, dt: Any, scale: Any, out: Any) -> None:
    """`mixture.finer` of the lines through all samples and those through the window, (2, 2, D) each."""
    for which in range(2):
        for part in range(2):
            square = 0.0
            for d in range(lines.shape[2]):
                square += (lines[which, part, d] - drawn[which, part, d]) ** 2
            out[2 * which + part] = mark(math.sqrt(square) * (FINER_STEPS if part else 1), scale, dt)


@compiled
def evidence_of(past: Any, dt: Any, answers: Any, scale: Any, marks: Any) -> Any:
    """`mixture.evidence` of one window (T, D) into marks (EVIDENCE,); returns `mixture.bent`."""
    time, dims = past.shape
    lines = np.empty((2, 2, dims))
    tried = np.empty((CANDIDATES, FURTHEST, dims))
    at = 0
    for back in (NEAREST, FURTHEST):
        if time - back < 3:
            marks[at : at + CANDIDATES] = 0.0
            at += CANDIDATES
            continue
        end = time - back
        lines_of(past, end, lines)
        answer_simply(past, end, dt, lines, tried[:, :back])
        for m in range(CANDIDATES):
            total = 0.0
            for k in range(back):
                square = TINY
                for d in range(dims):
                    square += (tried[m, k, d] + past[end - 1, d] - past[end + k, d]) ** 2
                total += math.sqrt(square)
            marks[at] = mark(total / back, scale, dt)
            at += 1
    for order in (2, 3):
        length = 0.0
        if time > order:
            square = 0.0
            for t in range(time - order):
                for d in range(dims):
                    if order == 2:
                        gap = past[t + 2, d] - 2 * past[t + 1, d] + past[t, d]
                    else:
                        gap = past[t + 3, d] - 3 * past[t + 2, d] + 3 * past[t + 1, d] - past[t, d]
                    square += gap * gap
            length = math.sqrt(square / (time - order) + TINY)
        marks[at] = mark(length, scale, dt)
        at += 1
    place, slope = np.empty(dims), np.empty(dims)
    for points in (SHORT, LONG):
        n = min(points, time)
        line_of(past, time, n, place, slope)
        square = 0.0
        for i in range(n):
            for d in range(dims):
                square += (past[time - n + i, d] - place[d] - (i + 1 - n) * slope[d]) ** 2
        marks[at] = mark(math.sqrt(square / n + TINY), scale, dt)
        at += 1
    middle = answers.shape[1] // 2
    for other in (2, 3):
        square = 0.0
        for d in range(dims):
            square += (answers[1, middle, d] - answers[other, middle, d]) ** 2
        marks[at] = mark(math.sqrt(square), scale, dt)
        at += 1
    marks[at] = math.log(scale) / 3
    marks[at + 1] = time / LONG - 1
    square = 0.0
    for d in range(dims):
        mean = (past[time - 1, d] - past[0, d]) / (time - 1)
        for t in range(time - 1):
            square += ((past[t + 1, d] - past[t, d] - mean) / dt) ** 2
    differ = max(square / (time - 1) - (ROUNDING * scale) ** 2, 0.0)
    return differ / (differ + (STILL * scale) ** 2)


@compiled
def mix(mean: Any, anchor: Any, answers: Any, favour: Any) -> None:
    """mean (K, D), the network's own path, becomes the weighted mean with answers (4, K, D)."""
    steps, dims = mean.shape
    count = answers.shape[0] + 1
    weight = np.empty(count)
    for k in range(steps):
        largest = -math.inf
        for m in range(count):
            weight[m] = favour[m] + (k + 1) / steps * favour[count + m]
            largest = max(largest, weight[m])
        total = 0.0
        for m in range(count):
            weight[m] = math.exp(weight[m] - largest)
            total += weight[m]
        for d in range(dims):
            place = weight[0] * mean[k, d]
            for m in range(1, count):
                place += weight[m] * (anchor[d] + answers[m - 1, k, d])
            mean[k, d] = place / total
