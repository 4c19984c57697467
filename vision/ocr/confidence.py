"""How sure a reading is: probabilities of characters and lines, calibrated on held-out data.

A character's raw confidence is the mean of its probability over the frames that the best alignment gives it;
a line's is its exact posterior p(text | frames) by the CTC forward recursion. Both pass through

    calibrated = sigmoid(a logit(raw) + b)

with a and b fitted so that the likelihood of "this was right" is largest: 1/a is a temperature, b the bias
that a language model or a poor scan leaves.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

EDGE = 1e-6
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Slope and bias of the logit, for characters and for whole lines."""

    char_slope: float = 1.0
    char_bias: float = 0.0
    line_slope: float = 1.0
    line_bias: float = 0.0

    def chars(self, raw: Any) -> np.ndarray:
        """Calibrated confidences of characters."""
        return squashed(self.char_slope * logit(raw) + self.char_bias)

    def line(self, raw: float) -> float:
        """Calibrated confidence of a whole line."""
        return float(squashed(self.line_slope * logit(raw) + self.line_bias))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def logit(p: Any) -> np.ndarray:
    """log p / (1 - p), away from the ends."""
    p = np.clip(np.asarray(p, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(p / (1 - p))


def squashed(x: Any) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))


def fit(raw: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Slope and bias of largest likelihood, with a faint pull to (1, 0); slope at least 0.05.

    Nothing to learn from gives (1, 0).
    """
    x, y = logit(raw), np.asarray(right, dtype=np.float64)
    if len(x) < 10 or y.min() == y.max():
        return 1.0, 0.0
    design = np.stack([x, np.ones_like(x)], 1)
    pull, at = np.diag([0.5, 0.5]), np.array([1.0, 0.0])
    for _ in range(50):
        p = squashed(design @ at)
        slope = design.T @ (p - y) + pull @ (at - [1.0, 0.0])
        curve = (design * (p * (1 - p))[:, None]).T @ design + pull
        step = np.linalg.solve(curve, slope)
        at = at - step.clip(-1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(max(at[0], 0.05)), float(at[1])


def expected_calibration_error(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Mean gap between confidence and share of right ones over ten equal bins of (0, 1]."""
    c, y = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(c):
        return float("nan")
    bins = np.clip(np.ceil(c * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = [abs(y[bins == b].mean() - c[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
    return float(sum(gaps))
