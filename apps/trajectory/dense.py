"""Recorders faster than the model: lines through all of their samples, not only through those that it sees.

At 100 Hz a line through all samples of 2 s errs by a twentieth of what one through every tenth does. The
network goes on seeing every tenth; its simple answers (`mixture`) are drawn through everything.
"""

from typing import Any

import numpy as np

from apps.trajectory.measures import LONG, SHORT
from core.kernels.jit import compiled

TWICE = 2.0
"""Samples a step from which on lines are drawn through all of them."""


def is_dense(time_s: np.ndarray, step: float) -> bool:
    """Whether there are two samples and more a step."""
    return len(time_s) > 2 and (time_s[-1] - time_s[0]) * TWICE <= step * (len(time_s) - 1) * (1 + 1e-6)


def through_all(time_s: np.ndarray, positions: np.ndarray, grid: np.ndarray, step: float) -> np.ndarray:
    """Ends and slopes a step of the short and the long line at each time of a grid: (n, 2, 2, D).

    The ends are counted from the position there, straight between samples.

    Args:
        time_s: (N,) rising; positions (N, D).
    """
    lines = np.zeros((len(grid), 2, 2, positions.shape[1]))
    spans = step * np.array([SHORT - 1.0, LONG - 1.0])
    fit_all(
        np.ascontiguousarray(time_s, np.float64),
        np.ascontiguousarray(positions, np.float64),
        np.ascontiguousarray(grid, np.float64),
        spans,
        step,
        lines,
    )
    lines[:, :, 0] -= straight(time_s, positions, grid)[:, None]
    return lines


def straight(time_s: np.ndarray, positions: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Positions (n, D) at times inside the samples, on the lines between them."""
    return np.stack([np.interp(at, time_s, axis) for axis in positions.T], 1)


def between(
    time_s: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None, at: np.ndarray
) -> np.ndarray:
    """Positions (n, D) at times inside the samples: Hermite curves where velocities are known, else parabolas
    where the path bends more than its noise explains, else lines (`bent`)."""
    if len(time_s) == 1:
        return np.repeat(positions, len(at), 0)
    if velocities is None:
        places = np.empty((len(at), positions.shape[1]))
        t, p, moments = (np.ascontiguousarray(x, np.float64) for x in (time_s, positions, at))
        bend_all(t, p, moments, places)
        return places
    right = np.clip(np.searchsorted(time_s, at, side="right"), 1, len(time_s) - 1)
    left = right - 1
    width = time_s[right] - time_s[left]
    s = ((at - time_s[left]) / width)[:, None]
    h = width[:, None]
    return (
        (1 + 2 * s) * (1 - s) ** 2 * positions[left]
        + s * (1 - s) ** 2 * h * velocities[left]
        + s**2 * (3 - 2 * s) * positions[right]
        + s**2 * (s - 1) * h * velocities[right]
    )


REMEMBERED = 8
"""Newest samples by which a path is judged to bend."""
BENT = 2.5
"""How many times what noise alone makes of the second differences, in squares, they must be."""


@compiled
def second(time_s: Any, positions: Any, i: Any, d: Any) -> Any:
    """Second divided difference through samples i - 1, i and i + 1."""
    after = (positions[i + 1, d] - positions[i, d]) / (time_s[i + 1] - time_s[i])
    before = (positions[i, d] - positions[i - 1, d]) / (time_s[i] - time_s[i - 1])
    return (after - before) / (time_s[i + 1] - time_s[i - 1])


@compiled
def bent(time_s: Any, positions: Any, i: Any) -> Any:
    """Whether the path to sample i + 1 bends more than noise explains.

        mean |second difference|^2 > BENT 6 s^2,  s^2 = mean |third difference|^2 / 20

    Differences over steps of the mean length, of the last samples up to that one: nothing later is looked at.
    """
    if i < 2:
        return False
    first = max(i - REMEMBERED + 1, 0)
    h = (time_s[i + 1] - time_s[first]) / (i + 1 - first)
    twice, thrice = 0.0, 0.0
    for j in range(max(first, 1), i + 1):
        for d in range(positions.shape[1]):
            c = second(time_s, positions, j, d)
            twice += (2 * h * h * c) ** 2
            if j > max(first, 1):
                change = (c - second(time_s, positions, j - 1, d)) / (time_s[j + 1] - time_s[j - 2])
                thrice += (6 * h * h * h * change) ** 2
    count = i + 1 - max(first, 1)
    return twice / count > BENT * 6 / 20 * thrice / (count - 1)


@compiled
def bend_all(time_s: Any, positions: Any, at: Any, places: Any) -> None:
    """`between` for positions alone. The parabola to sample i + 1 goes through i - 1, i and i + 1."""
    last = len(time_s) - 2
    for k in range(len(at)):
        i = min(max(np.searchsorted(time_s, at[k], side="right") - 1, 0), last)
        share = (at[k] - time_s[i]) / (time_s[i + 1] - time_s[i])
        reach = (at[k] - time_s[i]) * (at[k] - time_s[i + 1])
        curved = reach != 0 and bent(time_s, positions, i)
        for d in range(positions.shape[1]):
            places[k, d] = positions[i, d] + share * (positions[i + 1, d] - positions[i, d])
            if curved:
                places[k, d] += reach * second(time_s, positions, i, d)


AGREE = 0.3
"""Share of the way by which velocities of a file may miss its positions, and still be theirs."""


def of_the_path(
    time_s: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None
) -> np.ndarray | None:
    """Velocities that lead from position to position; None where they are of another frame or unit."""
    if velocities is None or velocities.shape != positions.shape or len(time_s) < 3:
        return None
    way, step = np.diff(positions, axis=0), np.diff(time_s)[:, None]
    led = (velocities[1:] + velocities[:-1]) / 2 * step
    length = np.linalg.norm(way, axis=1)
    return velocities if np.median(np.linalg.norm(led - way, axis=1)) <= AGREE * np.median(length) else None


@compiled
def fit_all(time_s: Any, positions: Any, grid: Any, spans: Any, step: Any, lines: Any) -> None:
    """Least squares over (g - span, g] for every g of the grid; the end is where the line is at g."""
    count, dims = positions.shape
    last = 0
    for k in range(grid.shape[0]):
        now = grid[k]
        while last < count and time_s[last] <= now + 1e-9:
            last += 1
        for which in range(2):
            first = last
            while first > 0 and time_s[first - 1] > now - spans[which] - 1e-9:
                first -= 1
            n = last - first
            mean_t = 0.0
            for i in range(first, last):
                mean_t += time_s[i] - now
            mean_t /= max(n, 1)
            square = 0.0
            for i in range(first, last):
                square += (time_s[i] - now - mean_t) ** 2
            for d in range(dims):
                mean_p, moment = 0.0, 0.0
                for i in range(first, last):
                    mean_p += positions[i, d] - positions[last - 1, d]
                mean_p /= max(n, 1)
                for i in range(first, last):
                    moment += (time_s[i] - now - mean_t) * (positions[i, d] - positions[last - 1, d])
                slope = moment / square if square > 0 else 0.0
                lines[k, which, 0, d] = positions[last - 1, d] + mean_p - slope * mean_t
                lines[k, which, 1, d] = slope * step
