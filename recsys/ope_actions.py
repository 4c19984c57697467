"""A log with propensities -> what another policy would have earned, and whether to trust it.

Open Bandit columns (item_id, position, click, propensity_score) or ours (item, slot, click, propensity) are
recognised; others are named by `--map`. Rows of searches are not the policy's doing and stay out. Unknown
propensities are excluded and counted, zero is refused; what the excluded rows could change stands beside the
estimate as bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.metrics.bootstrap import ratio_intervals
from recsys import offline
from recsys.offline import Actions
from recsys.slates import SEARCH
from recsys.tables import as_names, numbers_of, read_frame, refuse

KNOWN_NAMES = {
    "item": ("item", "item_id", "action"),
    "position": ("position", "slot"),
    "click": ("click", "reward"),
    "propensity": ("propensity", "propensity_score", "pscore"),
    "user": ("user", "user_id"),
    "kind": ("kind",),
    "draws": ("draws", "M"),
}
FEATURES = "user_feature"
"""Open Bandit knows users by these columns alone."""
FOLDS = 5
PRIOR = 20.0
"""Impressions at the mean rate that the reward model gives every item and position beforehand."""
STRONG = 0.2
"""Share of unknown propensities above which an answer is not to be trusted."""
MOST = 0.8
"""Share of a policy's items that a log must show; with fewer it is one of another catalogue."""


@dataclass(frozen=True)
class PolicyLog:
    """Rows of a log: internal items and positions from 0."""

    item: np.ndarray
    position: np.ndarray
    click: np.ndarray
    propensity: np.ndarray
    """NaN is unknown."""
    user: np.ndarray
    names: tuple[str, ...]
    positions: int
    draws: float | None
    source: str


def read_log(path: str | Path, columns: Mapping[str, str] | None = None) -> PolicyLog:
    """A CSV or Parquet log.

    Raises:
        DataError: a column is missing or holds something else; the row is named, counting from 1.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    frame = read_frame(path, columns)
    found = {}
    for name, words in KNOWN_NAMES.items():
        found[name] = next((word for word in words if word in frame.columns), None)
    for name in ("item", "click", "propensity"):
        if found[name] is None:
            raise DataError(
                f"{path}: no column for {name} ({', '.join(KNOWN_NAMES[name])}); give --map {name}=COLUMN."
            )
    if found["kind"] is not None:
        search = frame[found["kind"]].astype(str).isin(["search", str(SEARCH)])
        frame = frame[~search].reset_index(drop=True)
    if not len(frame):
        raise DataError(f"{path}: there is no recommended row in it.")
    source = str(path)
    for name in ("item", "user"):
        if found[name] is not None:
            refuse(frame[found[name]].isna(), frame, source, f"{name} is empty")
    click = numbers_of(frame, found["click"], source)
    wrong = ~np.isin(click, [0, 1])
    if wrong.any():
        raise DataError(f"{path} row {int(np.flatnonzero(wrong)[0]) + 1}: click is neither 0 nor 1.")
    names, item = np.unique(as_names(frame[found["item"]]), return_inverse=True)
    if all(
        name.isdecimal() and name.isascii() and len(name) < 19 for name in names
    ):  # numbers keep their order, as tables of policies have it
        names, item = np.unique(as_names(frame[found["item"]]).astype(np.int64), return_inverse=True)
    place = np.zeros(len(frame), np.int64)
    if found["position"] is not None:
        _, place = np.unique(numbers_of(frame, found["position"], source), return_inverse=True)
    features = [name for name in frame.columns if str(name).startswith(FEATURES)]
    if found["user"] is not None:
        user = as_names(frame[found["user"]])
    elif features:
        user = frame[features].astype(str).agg("|".join, axis=1).to_numpy()
    else:
        user = np.arange(len(frame)).astype(str)
    draws = None if found["draws"] is None else float(numbers_of(frame, found["draws"], source).max())
    return PolicyLog(
        item=item,
        position=place,
        click=click.astype(np.float64),
        propensity=numbers_of(frame, found["propensity"], source, empty=True),
        user=user,
        names=tuple(str(name) for name in names),
        positions=int(place.max()) + 1,
        draws=draws,
        source=str(path),
    )


def widened_to(log: PolicyLog, actions: int) -> PolicyLog:
    """The log with all items 0..actions - 1 of a table of policies, of which its own are most."""
    numbered = all(name.isdecimal() and int(name) < actions for name in log.names)
    if not numbered or not MOST * actions <= len(log.names) < actions:
        return log
    numbers = np.array([int(name) for name in log.names])
    return replace(log, item=numbers[log.item], names=tuple(map(str, range(actions))))


def policy_table(policy: str, log: PolicyLog) -> tuple[PolicyLog, np.ndarray]:
    """Chances (A, P) of a policy: `random`, `popularity`, or a table FILE.npz:NAME.

    Raises:
        ConfigError: no such policy.
        DataError: a table of another shape, or whose columns do not sum to 1.
    """
    actions, places = len(log.names), log.positions
    if policy == "random":
        return log, np.full((actions, places), 1 / actions)
    if policy == "popularity":
        table = np.zeros((actions, places))
        table[np.bincount(log.item, log.click, actions).argmax()] = 1
        return log, table
    file, colon, name = policy.rpartition(":")
    if not colon or not file.endswith(".npz"):
        raise ConfigError(f"a policy is random, popularity or a table FILE.npz:NAME, got {policy!r}.")
    from recsys.archives import read_npz

    table = np.asarray(read_npz(Path(file), (name,))[name], np.float64)
    if table.ndim == 2 and table.shape[1] == places:
        log = widened_to(log, len(table))  # not every item is shown in every log
        actions = len(log.names)
    if table.shape != (actions, places):
        raise DataError(
            f"{file}: {name!r} has shape {table.shape}; the log has {actions} items at {places} positions."
        )
    if (table < 0).any() or not np.allclose(table.sum(0), 1, atol=1e-3):
        raise DataError(f"{file}: the chances of {name!r} must sum to 1 at every position.")
    return log, table


def estimate(
    log: PolicyLog, policy: str = "random", clip: float | None = None, seed: int = 0
) -> dict[str, Any]:
    """All estimators of a policy's click rate, with intervals over users and what tells whether to trust it.

    Raises:
        DataError: a propensity is zero or outside (0, 1], or none is known.
    """
    log, table = policy_table(policy, log)
    actions = Actions(
        log.click,
        log.item,
        log.propensity,
        np.broadcast_to(table, (len(log.item), *table.shape)),
        log.position,
        log.user,
    )
    kept, unknown = offline.checked(actions)
    weight = kept.weight
    limit = np.inf if clip is None else clip
    q = reward_model(kept, table.shape)
    tau = float(np.quantile(weight, 0.95))
    rows = {
        "ips": offline.ips_rows(kept, limit),
        "dm": offline.dm_rows(kept, q),
        "dr": offline.dr_rows(kept, q, limit),
        "sndr": offline.sndr_rows(kept, q),
        "switch_dr": offline.switch_dr_rows(kept, q, tau),
        "dros": offline.dros_rows(kept, q, max(tau, 1.0)),
        "sg_ips": offline.sg_ips_rows(kept, 0.1),
        "sg_dr": offline.sg_dr_rows(kept, q, 0.1),
    }
    assert kept.user is not None
    ones = np.ones(len(weight))
    pairs = {name: (values, ones) for name, values in rows.items()}
    pairs["snips"] = (weight * kept.reward, weight)
    intervals = ratio_intervals(pairs, kept.user.tolist(), seed=seed)
    estimates = {name: one.as_dict("value") for name, one in intervals.items()}
    for name, values in rows.items():
        estimates[name] |= offline.bounds(values)
    if log.draws:  # propensities of M draws are themselves uncertain
        for name, noise in guessed(kept, log.draws, limit, seed).items():
            estimates[name] = widened(estimates[name], noise)
    figures = offline.effective(weight)
    share = unknown / len(log.item)
    chosen, by_slope = offline.clip_by_slope(kept)
    trust = offline.trusted(figures) and share <= STRONG
    floor = 1 / log.draws if log.draws else float(np.nanmin(log.propensity))
    missing = ~np.isfinite(log.propensity)
    lost = actions.taken(actions.target)[missing] / floor
    base = intervals["ips"].value * len(kept.reward)
    return {
        "n": len(log.item),
        "policy": policy,
        "logged": float(log.click.mean()),
        "clicks": int(log.click.sum()),
        "estimates": estimates,
        "replay": none_if_nan(offline.replay(kept)),
        "slope": {"clip": None if np.isinf(chosen) else chosen, "ips": by_slope},
        **figures,
        "unknown": unknown,
        "unknown_share": share,
        "unknown_low": float(base / len(log.item)),
        "unknown_high": float((base + lost.sum()) / len(log.item)),
        "trust": trust,
        "verdict": "" if trust else "do not trust",
        "users": len(np.unique(log.user)),
        "protocol": {"bootstrap": "users", "reward_model": "smoothed rates, cross-fitted by users"},
    }


def guessed(log: Actions, draws: float, clip: float, seed: int = 0, repeats: int = 200) -> dict[str, float]:
    """Standard deviation of IPS and SNIPS when the hits of M draws are drawn again."""
    random = np.random.default_rng(seed)
    taken, many = log.taken(log.target), int(draws)
    found: dict[str, list[float]] = {"ips": [], "snips": []}
    for _ in range(repeats):
        again = np.maximum(random.binomial(many, np.minimum(log.propensity, 1.0)), 1) / many
        weight = taken / again
        found["ips"].append(float((np.minimum(weight, clip) * log.reward).mean()))
        found["snips"].append(float((weight * log.reward).sum() / weight.sum()) if weight.any() else 0.0)
    return {name: float(np.std(values)) for name, values in found.items()}


def widened(row: dict[str, float | None], noise: float) -> dict[str, float | None]:
    """An interval with further noise in it."""
    value, low, high = row["value"], row["value_low"], row["value_high"]
    if value is None or low is None or high is None:
        return row
    more = (1.96 * noise) ** 2
    wide = {"value_low": value - ((value - low) ** 2 + more) ** 0.5}
    return row | wide | {"value_high": value + ((high - value) ** 2 + more) ** 0.5}


def reward_model(log: Actions, shape: tuple[int, ...]) -> np.ndarray:
    """q (N, A, P): click rates by item and position, smoothed, from the other folds of users."""
    from recsys.predict import stable

    assert log.user is not None
    names, owner = np.unique(log.user, return_inverse=True)
    fold = np.array([stable(str(name)) % FOLDS for name in names])[owner]
    q = np.empty((len(log.reward), *shape))
    for part in range(FOLDS):
        others, own = fold != part, fold == part
        if not own.any():
            continue
        mean = log.reward[others].mean() if others.any() else log.reward.mean()
        clicks, seen = np.zeros(shape), np.zeros(shape)
        np.add.at(clicks, (log.action[others], log.places[others]), log.reward[others])
        np.add.at(seen, (log.action[others], log.places[others]), 1)
        q[own] = (clicks + PRIOR * mean) / (seen + PRIOR)
    return q


def none_if_nan(value: float) -> float | None:
    """NaN is null in JSON."""
    return None if np.isnan(value) else value


def lines(answer: dict[str, Any]) -> list[str]:
    """The answer for people."""
    out = [
        f"{answer['n']} rows of {answer['users']} users, {answer['clicks']} clicks ({answer['logged']:.5f}); "
        f"policy {answer['policy']}"
    ]
    for name, row in answer["estimates"].items():
        low, high = row["value_low"], row["value_high"]
        between = "" if low is None else f"[{low:.6f}, {high:.6f}]"
        out.append(f"  {name:<10} {row['value']:.6f}  {between}")
    out.append(
        f"effective rows {answer['ess']:.0f} ({100 * answer['ess_share']:.1f} %), largest weight "
        f"{answer['max_weight']:.1f}, unknown propensities {100 * answer['unknown_share']:.1f} %"
    )
    if not answer["trust"]:
        out.append(
            "do not trust: too few effective rows, too large a weight, or too many unknown propensities"
        )
    return out
