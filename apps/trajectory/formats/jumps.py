"""Samples that no mover can have been at: left out where the track returns, named where it does not.

    i_k = |p_{k+1} - p_k - (p_k - p_{k-1}) dt_{k+1} / dt_k|
    a sample fails when  i_k > max(8 median(i), 0.5 m + min(80 m/s^2 dt^2, 4 v95 dt))

v95 is the 95 % quantile of the speeds. A gate on the length of a step alone would fail at take-off.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Allowed = Callable[[Any], Any]
"""Seconds -> metres that a sample may be away from where it is expected."""
LIKE_OTHERS = 8.0
"""Times the median innovation that is always allowed."""
SLACK_M, STRONGEST, SPEEDS = 0.5, 80.0, 4.0
"""Metres; m/s^2 of acceleration; times the usual speed."""
LONGEST = 5.0
"""Steps longer than so many medians are gaps, over which nothing is expected."""
MOST = 2
"""Samples in a row that may be wrong and left out."""


def outliers(
    time_s: np.ndarray, positions: np.ndarray, metres: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Which samples of a track are left out (n,), and what is said about them.

    Args:
        time_s: (n,) rising.
        positions: (n, D) metres.
        metres: an innovation above it fails, whatever the track usually does; None: the rule above.
    """
    count = len(time_s)
    bad = np.zeros(count, dtype=bool)
    if count < 8:
        return bad, []
    dt = np.diff(time_s)
    step = np.diff(positions, axis=0)
    innovation = np.linalg.norm(step[1:] - step[:-1] * (dt[1:] / dt[:-1])[:, None], axis=1)
    even = (dt[1:] <= LONGEST * np.median(dt)) & (dt[:-1] <= LONGEST * np.median(dt))
    if not even.any():
        return bad, []
    usual = LIKE_OTHERS * float(np.median(innovation[even]))
    v95 = float(np.quantile(np.linalg.norm(step, axis=1) / dt, 0.95))

    def allowed(seconds: Any) -> Any:
        if metres is not None:
            return metres + 0 * seconds
        return np.maximum(usual, SLACK_M + np.minimum(STRONGEST * np.square(seconds), SPEEDS * v95 * seconds))

    first = astray(time_s, positions, innovation, even, allowed)
    bad[:first] = True
    failing = np.flatnonzero(even & (innovation > allowed(dt[1:]))) + 2
    said: list[str] = []
    lasting = 0
    done = 0
    for sample in failing.tolist():
        if sample < max(done, first + 2 if first else 0):
            continue
        length = returns(time_s, positions, sample, allowed)
        if length:
            bad[sample : sample + length] = True
        else:
            lasting += 1
        done = sample + length + 2  # the way back fails too, and says nothing new
    if bad.any():
        ends = bool(bad[-1])
        where = " (the last one among them; is the file cut?)" if ends else ""
        said.append(f"{int(bad.sum())} samples left out{where}: no mover jumps like that and back.")
    if lasting:
        said.append(f"the path jumps {lasting} times and stays there; was a position set anew?")
    return bad, [text.replace("1 samples", "1 sample").replace("1 times", "once") for text in said]


def astray(
    time_s: np.ndarray, positions: np.ndarray, innovation: np.ndarray, even: np.ndarray, allowed: Allowed
) -> int:
    """How many samples at the begin are off the way that leads back from those behind them."""
    fails = even & (innovation > allowed(np.diff(time_s)[1:]))
    for first in range(1, MOST + 1):
        if not fails[first - 1] or fails[first : first + 3].any() or len(fails) < first + 3:
            continue
        step = time_s[first + 1] - time_s[first]
        back = positions[first] - (positions[first + 1] - positions[first]) / step * (
            time_s[first] - time_s[first - 1]
        )
        if np.linalg.norm(back - positions[first - 1]) > allowed(step):
            return first
    return 0


def returns(time_s: np.ndarray, positions: np.ndarray, sample: int, allowed: Allowed) -> int:
    """How many samples from `sample` on are off the way that leads there; 0 where the track stays away."""
    before, last = sample - 1, len(time_s) - 1
    velocity = (positions[before] - positions[before - 1]) / (time_s[before] - time_s[before - 1])
    for length in range(1, MOST + 1):
        after = sample + length
        if after > last:  # at the end nobody can know
            return length
        seconds = time_s[after] - time_s[before]
        expected = positions[before] + velocity * seconds
        if np.linalg.norm(positions[after] - expected) <= allowed(seconds):
            return length
    return 0
