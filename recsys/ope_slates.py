"""Whole slates with propensities -> what another policy would have earned, by every click model.

    SIPS   the slate's joint chance on every slot: no click model, wide
    RIPS   the chance of the slots above (cascade): between the two
    IIPS   the chance of item at position: slots by themselves; wrong in a cascade world
    SN..   their self-normalised forms; cascade-DR with rates by item and slot as reward model

`propensity` of a row is the chance of its item given the slots before, as policies log it; its products are
exact chances of prefixes and slates. The evaluated policy is `random`, or a column of the log that holds its
chances in the same sense. Search rows are not the policy's doing and stay out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.metrics.bootstrap import ratio_intervals
from recsys import offline
from recsys.ope_actions import FOLDS, PRIOR, STRONG
from recsys.predict import stable
from recsys.slates import SEARCH
from recsys.tables import read_frame

WAYS = ("sips", "rips", "iips")
"""From the least to the most biased."""


@dataclass(frozen=True)
class LoggedSlates:
    """Slates of K slots; arrays (N, K)."""

    item: np.ndarray
    click: np.ndarray
    propensity: np.ndarray
    """Given the slots before."""
    target: np.ndarray
    """The same of the evaluated policy."""
    marginal: np.ndarray | None
    target_marginal: np.ndarray | None
    user: np.ndarray
    """(N,)"""
    items: int
    unknown: int
    """Slates left out because a propensity is unknown."""
    remarks: tuple[str, ...]
    uniform: bool


def read_logged(
    path: str | Path,
    policy: str = "random",
    columns: Mapping[str, str] | None = None,
    items: int | None = None,
) -> LoggedSlates:
    """A log of slots, grouped into slates by user and time.

    Args:
        policy: `random`, or `column:NAME`.
        items: in the catalogue; None: as many as the log shows.

    Raises:
        ConfigError: another policy.
        DataError: a column is missing, a propensity is zero or above 1, or no slate is left.
    """
    frame = read_frame(Path(path), columns)
    target = policy.removeprefix("column:") if policy.startswith("column:") else None
    if target is None and policy != "random":
        raise ConfigError(f"slates are evaluated for random or column:NAME, got {policy!r}.")
    wanted = ("user", "time", "slot", "item", "click", "propensity", *([target] if target else []))
    for name in wanted:
        if name not in frame.columns:
            raise DataError(f"{path}: no column {name!r}; slates need {', '.join(wanted)}.")
    if "kind" in frame.columns:
        frame = frame[~frame["kind"].astype(str).isin(["search", str(SEARCH)])]
    if not len(frame):
        raise DataError(f"{path}: there is no recommended row in it.")
    frame = frame.sort_values(["user", "time", "slot"], kind="stable").reset_index(drop=True)
    key = frame["user"].astype(str) + "\0" + frame["time"].astype(str)
    sizes = key.groupby(key, sort=False).transform("size").to_numpy()
    width = int(sizes.min())
    place = key.groupby(key, sort=False).cumcount().to_numpy()
    remarks = []
    if (sizes != width).any():
        remarks.append(f"{path}: slates of {width} to {int(sizes.max())} slots; the first {width} are taken.")
    frame = frame[place < width]
    shape = (-1, width)

    def grid(name: str) -> np.ndarray:
        return frame[name].to_numpy(np.float64).reshape(shape)

    chance = grid("propensity")
    wrong = np.isfinite(chance) & ~((chance > 0) & (chance <= 1 + 1e-9))
    if wrong.any():
        row = int(np.flatnonzero(wrong.ravel())[0])
        raise DataError(
            f"{path}: propensity {chance.ravel()[row]:g} at slate {row // width}, slot {row % width + 1}; a "
            "logged item has a chance above 0 and at most 1 (leave it empty where it is unknown)."
        )
    known = np.isfinite(chance).all(1)
    if not known.any():
        raise DataError(f"{path}: no slate has all its propensities; nothing can be estimated.")
    names, item = np.unique(frame["item"].astype(str).to_numpy(), return_inverse=True)
    count = max(items or 0, len(names))
    others = count - np.arange(width)
    marginals = {
        name: grid(name) if name in frame.columns else None for name in ("marginal", "target_marginal")
    }
    own = np.broadcast_to(1 / others, chance.shape) if target is None else grid(target)
    far = marginals["target_marginal"]
    if target is None:
        far = np.full(chance.shape, 1 / count)
    users = frame["user"].astype(str).to_numpy().reshape(shape)[:, 0]

    def kept(array: np.ndarray | None) -> Any:
        return None if array is None else array[known]

    return LoggedSlates(
        item=item.reshape(shape)[known],
        click=grid("click")[known],
        propensity=chance[known],
        target=own[known],
        marginal=kept(marginals["marginal"]),
        target_marginal=kept(far),
        user=users[known],
        items=count,
        unknown=int((~known).sum()),
        remarks=tuple(remarks),
        uniform=target is None,
    )


def estimate_slates(log: LoggedSlates, seed: int = 0) -> dict[str, Any]:
    """All estimators of clicks per slate with intervals over users, effective sizes by slot, a verdict."""
    prefix, target = log.propensity.cumprod(1), log.target.cumprod(1)
    weights: dict[str, np.ndarray] = {
        "sips": np.repeat((target[:, -1] / prefix[:, -1])[:, None], prefix.shape[1], 1),
        "rips": target / prefix,
    }
    if log.marginal is not None and log.target_marginal is not None:
        weights["iips"] = log.target_marginal / log.marginal
    users = log.user.tolist()
    ones = np.ones(len(log.click))
    rows = {name: (weight * log.click).sum(1) for name, weight in weights.items()}
    drawn = {name: (values, ones) for name, values in rows.items()}
    for name, weight in weights.items():
        # a slate's share in a ratio: the mean of these is the estimate, their spread that of the ratio, whose
        # divisor is drawn, too
        part = weight / np.maximum(weight.mean(0), 1e-300)
        level = (part * log.click).mean(0)
        values = (level + part * (log.click - level)).sum(1)
        drawn[f"sn{name}"] = (values, ones)
    if log.uniform:
        taken, expected = rates(log)
        before = np.concatenate([np.ones_like(target[:, :1]), weights["rips"][:, :-1]], 1)
        values = (weights["rips"] * (log.click - taken) + before * expected).sum(1)
        drawn["cascade_dr"] = (values, ones)
    by_slot = [offline.effective(weights["rips"][:, slot])["ess_share"] for slot in range(prefix.shape[1])]
    deep = next((slot for slot, share in enumerate(by_slot) if share < offline.TRUST_SHARE), len(by_slot))
    figures = offline.effective(weights["rips"][:, -1])
    order = [name for name in WAYS if name in rows]
    widths = np.array([1.96 * rows[name].std(ddof=1) / len(ones) ** 0.5 for name in order])
    chosen = order[offline.slope(np.array([rows[name].mean() for name in order]), widths)]
    share = log.unknown / (log.unknown + len(ones))
    trust = offline.trusted(figures) and share <= STRONG
    if deep:
        drawn["cut"] = ((weights["rips"][:, :deep] * log.click[:, :deep]).sum(1), ones)
    intervals = ratio_intervals(drawn, users, seed=seed)
    cut = intervals.pop("cut", None)
    estimates = {name: one.as_dict("value") for name, one in intervals.items()}
    return {
        "n": len(ones),
        "slots": prefix.shape[1],
        "users": len(set(users)),
        "logged": float(log.click.sum(1).mean()),
        "estimates": estimates,
        "slope": chosen,
        **figures,
        "ess_share_by_slot": by_slot,
        "trusted_slots": deep,
        "rips_of_trusted_slots": None if cut is None else cut.as_dict("value"),
        "unknown": log.unknown,
        "unknown_share": share,
        "trust": trust,
        "verdict": "" if trust else "do not trust",
        "remarks": list(log.remarks),
        "protocol": {"bootstrap": "users", "value": "clicks per slate",
                     "click_model": "SIPS none, RIPS cascade, IIPS slots by themselves"},
    }  # fmt: skip


def rates(log: LoggedSlates) -> tuple[np.ndarray, np.ndarray]:
    """Click rates by item and slot from the other folds of users: of the logged item, and mean over items."""
    fold = np.array([stable(name) % FOLDS for name in log.user])
    width = log.item.shape[1]
    taken, expected = np.empty(log.item.shape), np.empty(log.item.shape)
    slots = np.broadcast_to(np.arange(width), log.item.shape)
    for part in range(FOLDS):
        others, own = fold != part, fold == part
        if not own.any():
            continue
        base = log.click[others].mean() if others.any() else log.click.mean()
        clicks, seen = np.zeros((log.items, width)), np.zeros((log.items, width))
        np.add.at(clicks, (log.item[others], slots[others]), log.click[others])
        np.add.at(seen, (log.item[others], slots[others]), 1)
        table = (clicks + PRIOR * base) / (seen + PRIOR)
        taken[own] = table[log.item[own], slots[own]]
        expected[own] = table.mean(0)
    return taken, expected


def lines(answer: dict[str, Any]) -> list[str]:
    """The answer for people."""
    out = [f"{answer['n']} slates of {answer['slots']} slots, {answer['users']} users, "
           f"{answer['logged']:.4f} clicks a slate"]  # fmt: skip
    for name, row in answer["estimates"].items():
        low, high = row["value_low"], row["value_high"]
        between = "" if low is None else f"[{low:.5f}, {high:.5f}]"
        out.append(f"  {name:<10} {row['value']:.5f}  {between}")
    shares = " ".join(f"{100 * share:.1f}" for share in answer["ess_share_by_slot"])
    out.append(f"effective slates by slot, %: {shares}; SLOPE takes {answer['slope']}")
    out.append(
        f"largest weight {answer['max_weight']:.1f}, {answer['unknown']} slates with unknown propensities"
    )
    if answer["trusted_slots"] < answer["slots"]:
        out.append(f"below slot {answer['trusted_slots']} too few slates are left to say anything")
    if not answer["trust"]:
        out.append("do not trust: too few effective slates, too large a weight, or too many unknown ones")
    return out
