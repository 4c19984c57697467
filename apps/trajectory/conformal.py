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

    ROOM = 24
    """Answers that are followed at once, two seconds of ten a second; more where their steps are short."""

    def __init__(self, steps: int, alpha: float = 0.1) -> None:
        self.log = np.zeros(steps)
        self.alpha = alpha
        self.last = -math.inf
        self.due = math.inf
        """When the next step of an answer becomes known."""
        self.count = 0
        self.times, self.steps = np.zeros(self.ROOM), np.zeros(self.ROOM)
        self.known = np.zeros(self.ROOM, np.int64)
        """Steps of each answer that were compared with what came."""
        self.means, self.radii = np.zeros((self.ROOM, steps, 0)), np.zeros((self.ROOM, steps))

    @property
    def factor(self) -> np.ndarray:
        """(K,) what the radii are multiplied with."""
        return np.exp(self.log)

    def forget(self) -> None:
        """Drop the answers whose truth will not come; what was learned stays."""
        self.count, self.last, self.due = 0, -math.inf, math.inf

    def tell(self, time_s: float, step: float, mean: np.ndarray, radius: np.ndarray) -> None:
        """Follow an answer from `time_s`: mean (K, D), radius (K,) as it was told."""
        if time_s - self.last < self.REGISTER_S - 1e-9:
            return
        if self.means.shape[2] != mean.shape[1]:
            self.means = np.zeros((len(self.times), len(self.log), mean.shape[1]))
        if self.count == len(self.times):
            self.make_room()
        at = self.count
        self.times[at], self.steps[at], self.known[at] = time_s, step, 0
        self.means[at], self.radii[at] = mean, radius
        self.count, self.last = at + 1, time_s
        self.due = min(self.due, time_s + step * (1 - EARLY))

    def make_room(self) -> None:
        """Leave out the answers that are known to their end, or take more."""
        open_yet = np.flatnonzero(self.known[: self.count] < len(self.log))
        size = len(self.times) * (2 if len(open_yet) > len(self.times) // 2 else 1)
        for name in ("times", "steps", "known", "means", "radii"):
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(open_yet)] = old[open_yet]
            setattr(self, name, new)
        self.count = len(open_yet)

    def learn(self, now_s: float, at: Callable[[np.ndarray], np.ndarray]) -> None:
        """Compare what was told with where the track was up to `now_s`; `at` gives positions (n, D)."""
        if now_s < self.due:
            return
        told = slice(self.count)
        left = int((len(self.log) - self.known[told]).sum())
        which, moments = np.empty((left, 2), np.int64), np.empty(left)
        clocks = self.times[told], self.steps[told], self.known[told]
        found, self.due = due_steps(now_s, *clocks, len(self.log), which, moments)
        if not found:
            return
        order = np.argsort(moments[:found], kind="stable")
        truth = at(moments[:found][order])
        gains = self.GAMMA * np.minimum(1.0, self.REGISTER_S / self.steps[told])
        compare(
            which[:found][order], truth, self.means, self.radii, gains, self.alpha, self.LARGEST, self.log
        )


EARLY = 1e-6
"""Share of a step by which a sample may be early, by a rounding."""


@compiled
def due_steps(
    now: Any, times: Any, steps: Any, known: Any, horizon: Any, which: Any, moments: Any
) -> tuple[Any, Any]:
    """Answers and steps (n, 2) whose moment has come, into which and moments, and `known` moved on; gives how
    many, and when the next will be."""
    found, due = 0, math.inf
    for row in range(len(times)):
        reached = min(int((now - times[row]) / steps[row] + EARLY), horizon)
        for k in range(known[row], reached):
            which[found, 0] = row
            which[found, 1] = k
            moments[found] = min(times[row] + steps[row] * (k + 1), now)
            found += 1
        known[row] = max(reached, known[row])
        if known[row] < horizon:
            due = min(due, times[row] + steps[row] * (known[row] + 1 - EARLY))
    return found, due


@compiled
def compare(
    which: Any, truth: Any, means: Any, radii: Any, gains: Any, alpha: Any, largest: Any, log: Any
) -> None:
    """Move log (K,) by the misses of steps which (n, 2) against places truth (n, D)."""
    for i in range(len(which)):
        row, k = which[i, 0], which[i, 1]
        square = 0.0
        for d in range(truth.shape[1]):
            square += (truth[i, d] - means[row, k, d]) ** 2
        missed = 1.0 if math.sqrt(square) > radii[row, k] else 0.0
        log[k] = min(max(log[k] + gains[row] * (missed - alpha), -largest), largest)


class OwnRadius:
    """The same along a log: what the balls of earlier answers missed, as far as each answer may know.

    Answers stand on an even grid, so what was told for k steps ahead is known k samples later.
    """

    GAIN_S, MOST = 0.7, 0.5
    """Gain a second between two answers, and the most of one."""
    CAREFUL = 0.85
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
