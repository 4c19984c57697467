"""Off-policy estimates: what another policy would have earned on a log, with what tells whether to trust it.

Single actions, w = pi_e(a | x, position) / p_b:

    ips        mean min(w, clip) r                 snips      sum w r / sum w (no clip, as the reference)
    dm         mean E_pi q                         dr         mean E_pi q + min(w, clip) (r - q_a)
    sndr       dr with w / mean w                  switch_dr  dr without the correction where w > tau
    dros       w' = l w / (w^2 + l)                sg_ips, sg_dr   w' = w / (1 - l + l w)
    replay     mean r of the rows whose action the policy would surely have taken

Slates of K slots with rewards by slot, summed over slots and averaged over slates: sips weighs by the joint
propensity of the slate, iips by the marginal of item and position, rips by the prefix 1..l (cascade); the
self-normalised forms divide by mean weights (within each position for iips and rips); cascade_dr adds a
reward model. Names and rules of st-tech/zr-obp 0.5.5.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import DataError

Array = np.ndarray
TRUST_SHARE, TRUST_WEIGHT = 0.05, 1000.0
"""Below this effective share of the rows, or above this weight, an answer says so."""


@dataclass(frozen=True)
class Actions:
    """A log of single actions. `target` are the evaluated policy's chances of every action."""

    reward: Array
    """(N,)"""
    action: Array
    """(N,)"""
    propensity: Array
    """(N,) of the logged action; NaN is unknown."""
    target: Array
    """(N, A, P) chances by position, each sums to 1 over actions."""
    position: Array | None = None
    """(N,) slot of the row; None: one position."""
    user: Array | None = None
    """(N,) whom a row belongs to; intervals draw users."""

    def taken(self, table: Array) -> Array:
        """Values (N,) of a table (N, A, P) at the logged action and position."""
        rows = np.arange(len(self.reward))
        return table[rows, self.action, self.places]

    def expected(self, table: Array) -> Array:
        """Mean (N,) of a table (N, A, P) under the evaluated policy."""
        rows = np.arange(len(self.reward))
        return (table[rows, :, self.places] * self.target[rows, :, self.places]).sum(1)

    @property
    def places(self) -> Array:
        return np.zeros(len(self.reward), np.int64) if self.position is None else self.position

    @property
    def weight(self) -> Array:
        """(N,) target chance / propensity."""
        return self.taken(self.target) / self.propensity


def checked(log: Actions) -> tuple[Actions, int]:
    """The rows with a known propensity, and how many had none.

    Raises:
        DataError: a propensity of zero, or outside (0, 1]; shapes that do not fit; nothing left.
    """
    count = len(log.reward)
    if not (log.action.shape == log.propensity.shape == (count,)) or log.target.shape[0] != count:
        raise DataError("reward, action, propensity and target must have one row each per impression.")
    known = np.isfinite(log.propensity)
    wrong = known & ~((log.propensity > 0) & (log.propensity <= 1 + 1e-9))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {row}: propensity {log.propensity[row]:g}; a logged action has a chance above 0 and at "
            "most 1 (leave it empty where it is unknown)."
        )
    if not known.any():
        raise DataError("no row has a known propensity; nothing can be estimated.")
    keep = known

    def cut(array: Array | None) -> Any:
        return None if array is None else array[keep]

    kept = Actions(
        log.reward[keep],
        log.action[keep],
        log.propensity[keep],
        log.target[keep],
        cut(log.position),
        cut(log.user),
    )
    return kept, int((~known).sum())


def ips_rows(log: Actions, clip: float = np.inf) -> Array:
    """(N,) contributions of the inverse propensity score."""
    return np.minimum(log.weight, clip) * log.reward


def snips(log: Actions) -> float:
    """Self-normalised IPS."""
    weight = log.weight
    return float((weight * log.reward).sum() / weight.sum())


def dm_rows(log: Actions, q: Array) -> Array:
    """(N,) of the direct method for a reward model (N, A, P)."""
    return log.expected(q)


def corrected(log: Actions, q: Array, weight: Array) -> Array:
    """(N,) E_pi q + weight (r - q_a)."""
    return log.expected(q) + weight * (log.reward - log.taken(q))


def dr_rows(log: Actions, q: Array, clip: float = np.inf) -> Array:
    """(N,) doubly robust."""
    return corrected(log, q, np.minimum(log.weight, clip))


def sndr_rows(log: Actions, q: Array) -> Array:
    """(N,) doubly robust with self-normalised weights."""
    weight = log.weight
    return corrected(log, q, weight / weight.mean())


def switch_dr_rows(log: Actions, q: Array, tau: float) -> Array:
    """(N,) without the correction where the weight is above tau."""
    weight = log.weight
    return corrected(log, q, weight * (weight <= tau))


def dros_rows(log: Actions, q: Array, shrink: float) -> Array:
    """(N,) doubly robust with optimistic shrinkage."""
    weight = log.weight
    return corrected(log, q, shrink * weight / (weight**2 + shrink))


def gentle(weight: Array, shrink: float) -> Array:
    """Sub-Gaussian weights."""
    return weight / (1 - shrink + shrink * weight)


def sg_ips_rows(log: Actions, shrink: float) -> Array:
    """(N,) sub-Gaussian IPS."""
    return gentle(log.weight, shrink) * log.reward


def sg_dr_rows(log: Actions, q: Array, shrink: float) -> Array:
    """(N,) sub-Gaussian doubly robust."""
    return corrected(log, q, gentle(log.weight, shrink))


def replay(log: Actions) -> float:
    """Mean reward of the rows whose action the policy takes for sure; NaN where there is none."""
    same = log.taken(log.target) == 1
    return float(log.reward[same].mean()) if same.any() else float("nan")


@dataclass(frozen=True)
class SlateLog:
    """Slates by slot, sorted by slate and position; every slate has the same K slots."""

    reward: Array
    """(N, K)"""
    joint: Array
    """(N, K) behaviour propensity of the whole slate, on every slot."""
    prefix: Array
    """(N, K) of the slots 1..l."""
    marginal: Array
    """(N, K) of item and position."""
    target_joint: Array
    target_prefix: Array
    target_marginal: Array
    """(N, K) the same of the evaluated policy."""


def slate_estimates(log: SlateLog) -> dict[str, float]:
    """SIPS, IIPS, RIPS and their self-normalised forms."""
    ways = {
        "sips": log.target_joint / log.joint,
        "iips": log.target_marginal / log.marginal,
        "rips": log.target_prefix / log.prefix,
    }
    estimates = {name: float((weight * log.reward).sum(1).mean()) for name, weight in ways.items()}
    for name, weight in ways.items():
        mean = weight.mean() if name == "sips" else weight.mean(0)
        estimates[f"sn{name}"] = float((weight / mean * log.reward).sum(1).mean())
    return estimates


def cascade_dr(log: SlateLog, q_taken: Array, q_expected: Array) -> float:
    """Cascade-DR for a reward model: Q of the logged item (N, K), and its mean under the policy (N, K)."""
    weight = log.target_prefix / log.prefix
    before = np.concatenate([np.ones_like(weight[:, :1]), weight[:, :-1]], 1)
    return float((weight * (log.reward - q_taken) + before * q_expected).sum(1).mean())


def effective(weight: Array) -> dict[str, float]:
    """Effective sample size, its share of the rows, the largest weight."""
    total = float(weight.sum())
    size = total**2 / float((weight**2).sum()) if total else 0.0
    return {
        "ess": size,
        "ess_share": size / max(len(weight), 1),
        "max_weight": float(weight.max(initial=0.0)),
    }


def trusted(figures: dict[str, float]) -> bool:
    """Whether an estimate by weights can be believed at all."""
    return figures["ess_share"] >= TRUST_SHARE and figures["max_weight"] <= TRUST_WEIGHT


def bounds(rows: Array, level: float = 0.95) -> dict[str, float]:
    """Concentration bounds of a mean of rows: empirical Bernstein (Maurer, Pontil 2009) and Hoeffding."""
    count, delta = len(rows), 1 - level
    width = float(rows.max() - rows.min()) if count else 0.0
    mean, variance = float(rows.mean()), float(rows.var(ddof=1)) if count > 1 else 0.0
    log = np.log(4 / delta)
    bernstein = np.sqrt(2 * variance * log / count) + 7 * width * log / (3 * max(count - 1, 1))
    hoeffding = width * np.sqrt(np.log(2 / delta) / (2 * count))
    return {
        "bernstein_low": mean - float(bernstein),
        "bernstein_high": mean + float(bernstein),
        "hoeffding_low": mean - float(hoeffding),
        "hoeffding_high": mean + float(hoeffding),
    }


def slope(estimates: Array, widths: Array) -> int:
    """Which of several candidates to take, ordered from the least to the most biased (Su et al. 2020).

    Intervals of twice the half-widths; the answer is the last one with which all before have a common point.
    Widths must fall along the list: the running minimum is taken.
    """
    widths = np.minimum.accumulate(widths)
    low, high = -np.inf, np.inf
    chosen = 0
    for index, (value, width) in enumerate(zip(estimates, widths, strict=True)):
        low, high = max(low, value - 2 * width), min(high, value + 2 * width)
        if low > high:
            break
        chosen = index
    return chosen


def clip_by_slope(log: Actions) -> tuple[float, float]:
    """The clip of IPS that SLOPE takes among 20 quantiles of the weights and none: (clip, estimate)."""
    weight = log.weight
    quantiles = np.quantile(weight, np.linspace(1, 0.5, 20))
    clips = [np.inf, *quantiles.tolist()]
    rows = [np.minimum(weight, clip) * log.reward for clip in clips]
    widths = np.array([1.96 * row.std(ddof=1) / np.sqrt(len(row)) for row in rows])
    means = np.array([row.mean() for row in rows])
    chosen = slope(means, widths)
    return float(clips[chosen]), float(means[chosen])
