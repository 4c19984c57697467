"""Split-conformal radii: balls around a prediction that hold the truth with a stated chance.

    score of a window at step k    s_k = |p_k - p_hat_k| / spread_k
    factor                         q_k(alpha) = the ceil((n + 1)(1 - alpha))-th smallest of n scores
    radius                         r_k = q_k(alpha) * spread_k

spread_k is the length that the model expects its own error to have (from its covariance, or recent speed
times time ahead), so slow and fast flight get radii of their own. The calibration flights are in neither
the training nor the test set. Under exchangeable flights the coverage is at least 1 - alpha; on another
kind of flight it is an observation, not a promise, and `LiveRadius` follows it online.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import DataError, WeightsError
from core.kernels.jit import compiled

LEVELS = tuple(
    float(level) for level in np.r_[np.arange(0.05, 0.9, 0.05), np.arange(0.9, 0.9951, 0.005)].round(3)
)
"""Coverages at which factors are stored."""


@dataclass(frozen=True)
class Calibration:
    """Factors of one model for every step and stored level."""

    factors: np.ndarray
    """(K, levels), rising along each row; infinite where n scores are too few for the level."""
    count: int
    """Calibration windows."""
    levels: tuple[float, ...] = LEVELS

    @classmethod
    def fit(cls, scores: np.ndarray, levels: tuple[float, ...] = LEVELS) -> "Calibration":
        """From scores (n, K).

        Raises:
            DataError: no scores, or one that is not finite.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 2 or not scores.size:
            raise DataError("calibration needs at least one window.")
        if not np.isfinite(scores).all():
            raise DataError("a calibration score is not finite.")
        n = len(scores)
        ordered = np.sort(scores, axis=0)
        columns = []
        for level in levels:
            rank = math.ceil((n + 1) * level - 1e-9)
            columns.append(ordered[rank - 1] if rank <= n else np.full(scores.shape[1], np.inf))
        return cls(np.stack(columns, 1), n, levels)

    def factor(self, alpha: float | np.ndarray = 0.1) -> np.ndarray:
        """Factors (K,) for one alpha or one per step: of the next stored level not below 1 - alpha."""
        wanted = np.broadcast_to(1 - np.asarray(alpha, dtype=np.float64), (len(self.factors),))
        index = np.searchsorted(np.asarray(self.levels), wanted - 1e-9)
        padded = np.concatenate([self.factors, np.full((len(self.factors), 1), np.inf)], 1)
        return np.where(wanted <= 0, 0.0, padded[np.arange(len(padded)), index])

    def as_dict(self) -> dict[str, Any]:
        """For the card of a weights file; infinity becomes null."""
        rows = [
            [None if math.isinf(value) else round(value, 5) for value in row] for row in self.factors.tolist()
        ]
        return {"levels": list(self.levels), "count": self.count, "factors": rows}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Calibration":
        """The inverse of `as_dict`.

        Raises:
            WeightsError: the stored calibration is damaged.
        """
        try:
            rows = [
                [math.inf if value is None else float(value) for value in row] for row in stored["factors"]
            ]
            factors, levels = np.array(rows), tuple(float(level) for level in stored["levels"])
            if factors.shape[1:] != (len(levels),):
                raise ValueError(f"{factors.shape} factors for {len(levels)} levels")
            return cls(factors, int(stored["count"]), levels)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the stored calibration is damaged ({error}).") from error


class LiveRadius:
    """Balls of one live track that keep their coverage when the motion changes its kind.

        log m_k <- log m_k + gamma (miss_k - alpha),  r_k = q_k(alpha) spread_k m_k

    miss_k is 1 where the truth left the ball that was told k steps before. A moving alpha comes to the end of
    the stored levels; the logarithm of the radius reaches any size in seconds and comes back (after Gibbs and
    Candes 2021, and conformal PID control, Angelopoulos et al. 2023, arXiv 2307.16895).
    """

    GAMMA, REGISTER_S = 0.2, 0.1
    """Gain at ten answers a second, and the least time between two that are followed."""
    LARGEST = math.log(20.0)

    def __init__(self, steps: int, alpha: float = 0.1) -> None:
        self.log = np.zeros(steps)
        self.alpha = alpha
        self.told: deque[Told] = deque()
        self.last = -math.inf
        self.due = math.inf
        """When the next step of an answer becomes known."""

    @property
    def factor(self) -> np.ndarray:
        """(K,) what the radii are multiplied with."""
        return np.exp(self.log)

    def forget(self) -> None:
        """Drop the answers whose truth will not come; what was learned stays."""
        self.told.clear()
        self.last, self.due = -math.inf, math.inf

    def tell(self, time_s: float, step: float, mean: np.ndarray, radius: np.ndarray) -> None:
        """Follow an answer from `time_s`: mean (K, D), radius (K,) as it was told."""
        if time_s - self.last < self.REGISTER_S - 1e-9:
            return
        self.last = time_s
        self.told.append(Told(time_s, step, mean, radius))
        self.due = min(self.due, time_s + step * (1 - EARLY))

    def learn(self, now_s: float, at: Callable[[np.ndarray], np.ndarray]) -> None:
        """Compare what was told with where the track was up to `now_s`; `at` gives positions (n, D)."""
        if now_s < self.due:
            return
        found, due = [], math.inf
        for told in self.told:
            reached = min(int((now_s - told.time_s) / told.step + EARLY), len(told.mean))
            found += [(told.time_s + told.step * (k + 1), k, told) for k in range(told.known, reached)]
            told.known = max(reached, told.known)
            due = min(due, told.time_s + told.step * (told.known + 1 - EARLY))
        while self.told and self.told[0].known >= len(self.told[0].mean):
            self.told.popleft()
        self.due = due
        if not found:
            return
        found.sort(key=lambda item: item[0])
        truth = at(np.minimum([time_s for time_s, _, _ in found], now_s))
        gaps = truth - np.stack([told.mean[k] for _, k, told in found])
        for (_, k, told), error in zip(found, np.sqrt((gaps * gaps).sum(1)).tolist(), strict=True):
            gain = self.GAMMA * min(1.0, self.REGISTER_S / told.step)
            self.log[k] += gain * ((error > told.radius[k]) - self.alpha)
        np.clip(self.log, -self.LARGEST, self.LARGEST, out=self.log)


@dataclass
class Told:
    """An answer of a live track, and how many of its steps were compared with what came."""

    time_s: float
    step: float
    mean: np.ndarray
    radius: np.ndarray
    known: int = 0


EARLY = 1e-6
"""Share of a step by which a sample may be early, by a rounding."""


class OwnRadius:
    """The same along a log: what the balls of earlier answers missed, as far as each answer may know.

    Answers stand on an even grid, so what was told for k steps ahead is known k samples later.
    """

    GAIN_S, MOST = 0.7, 0.5
    """Gain a second between two answers, and the most of one."""
    CAREFUL = 0.75
    """Share of the misses that are allowed which the rule aims at: they come in bursts, after it was calm."""

    def __init__(self, steps: int, spacing_s: float, alpha: float = 0.1) -> None:
        self.steps, self.alpha = steps, alpha
        self.gain = min(self.GAIN_S * spacing_s, self.MOST)
        self.log = np.zeros(steps)
        self.ends = np.zeros(0, dtype=np.int64)
        self.errors = self.radii = self.told = np.zeros((0, steps))

    def forget(self) -> None:
        """Drop the answers whose truth will not come, at the end of a stretch; what was learned stays."""
        self.ends = np.zeros(0, dtype=np.int64)
        self.errors = self.radii = self.told = np.zeros((0, self.steps))

    def factors(self, ends: np.ndarray, errors: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """(n, K) what the radii of the next answers are multiplied with.

        Args:
            ends: (n,) rising, the sample that an answer stands on.
            errors: (n, K) what it will have erred by; NaN where nobody will know. Read where it is known.
            radii: (n, K) of the calibration.
        """
        before = len(self.ends)
        ends = np.concatenate([self.ends, ends])
        errors, radii = np.concatenate([self.errors, errors]), np.concatenate([self.radii, radii])
        told = np.concatenate([self.told, np.zeros((len(ends) - before, self.steps))])
        follow(
            ends,
            errors,
            radii,
            told,
            before,
            self.gain,
            self.CAREFUL * self.alpha,
            LiveRadius.LARGEST,
            self.log,
        )
        last = ends > ends[-1] - self.steps if len(ends) else np.zeros(0, dtype=bool)
        self.ends, self.errors, self.radii, self.told = ends[last], errors[last], radii[last], told[last]
        return np.exp(told[before:])


@compiled
def follow(
    ends: Any, errors: Any, radii: Any, told: Any, first: Any, gain: Any, alpha: Any, largest: Any, log: Any
) -> None:
    """Rows from `first` on of told (n, K), logarithms that the radii of each answer were widened by."""
    count, steps = told.shape
    for i in range(first, count):
        if i > 0:
            for j in range(i - 1, -1, -1):
                if ends[i - 1] - ends[j] >= steps:
                    break
                for k in range(ends[i - 1] - ends[j], min(steps, ends[i] - ends[j])):
                    if not math.isnan(errors[j, k]):
                        missed = 1.0 if errors[j, k] > radii[j, k] * math.exp(told[j, k]) else 0.0
                        log[k] = min(max(log[k] + gain * (missed - alpha), -largest), largest)
        for k in range(steps):
            told[i, k] = log[k]
