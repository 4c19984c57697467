"""Scores of a slate model beside all baselines on a log, one code path for commands, tests and pages."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from recsys.baselines import LIKELIHOODS, Counts, last_group, popular, slot_log_probs
from recsys.features import Steps, steps_of
from recsys.metrics import PROTOCOL, START, calibration, hits, scored, taken, truth_after
from recsys.policies.slates import top
from recsys.slates import FIRST, Catalogue, Slates
from recsys.trained import Trained

PIECE = 500
"""Users at a time; no figure depends on it."""
ASKED = 20
"""Items that are recommended."""

Judge = Callable[[Steps], Tensor]
"""Steps -> log P(slot) (B, T, S), each step from the ones before."""
Rank = Callable[[Steps], Tensor]
"""Steps -> scores of all items (B, I) after them."""


def evaluate(
    model: Trained,
    logs: Sequence[Slates],
    *,
    beside: Trained | None = None,
    k: int = ASKED,
    kind: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of a model on the users of these logs, whom it must not have seen, beside all baselines.

    Args:
        beside: a second model whose figures stand among the baselines as `linear`.
        kind: "search" or "rec": only steps of this kind count in the likelihood.
        seed: of the intervals.

    Raises:
        DataError: a log of another catalogue, or nothing to score.
    """
    figures = Figures(model.counts, torch.from_numpy(model.catalogue.group), k, kind, seed)
    with torch.inference_mode():
        for log in logs:
            slates = in_catalogue(log, model.catalogue)
            for start in range(0, len(slates), PIECE):
                part = slates.rows(slice(start, start + PIECE))
                figures.add(part, model, beside)
    return figures.report(model)


class Figures:
    """Sums over pieces of users."""

    def __init__(self, counts: Counts, group: Tensor, k: int, kind: str | None, seed: int) -> None:
        self.counts, self.group, self.k, self.kind, self.seed = counts, group, k, kind, seed
        self.loglik: dict[str, list[np.ndarray]] = {}
        self.found: dict[str, list[np.ndarray]] = {}
        self.users: list[np.ndarray] = []
        self.steps: list[np.ndarray] = []
        self.truths: list[int] = []
        self.chance: dict[str, list[np.ndarray]] = {"no_click": [], "click": []}
        self.happened: dict[str, list[np.ndarray]] = {"no_click": [], "click": []}
        self.items = 0

    def add(self, part: Slates, model: Trained, beside: Trained | None) -> None:
        """Score some users."""
        steps = steps_of(part)
        kept = scored(steps)
        if self.kind is not None:
            kept = kept & (steps.kind == (1 if self.kind == "search" else 2))
        number = kept.sum(1).numpy()
        self.steps.append(number)
        self.users.append(np.asarray(part.users))
        judged = model.judge(steps)
        self.note("model", judged, steps, kept)
        self.calibrate(judged, steps, kept)
        for name in LIKELIHOODS:
            self.note(name, slot_log_probs(name, self.counts, steps), steps, kept)
        truth = truth_after(steps)
        self.truths += [len(wanted) for wanted in truth]
        history = steps.first(START)
        count = min(self.k, int(self.group.shape[0]) - FIRST)
        self.found.setdefault("model", []).append(hits(best(model, history, count), truth))
        everyone = popular(self.counts, count).tolist()
        self.found.setdefault("popularity", []).append(hits([everyone] * len(truth), truth))
        groups = last_group(self.counts, self.group, history, count)
        self.found.setdefault("last_group", []).append(hits(groups, truth))
        share = count / max(len(self.group) - FIRST, 1)
        self.found.setdefault("random", []).append(np.array([share * len(wanted) for wanted in truth]))
        if beside is not None:
            self.note("linear", beside.judge(steps), steps, kept)
            self.found.setdefault("linear", []).append(hits(best(beside, history, count), truth))

    def note(self, name: str, log_probs: Tensor, steps: Steps, kept: Tensor) -> None:
        """Keep the sum of log likelihoods of every user."""
        each = (taken(log_probs, steps) * kept).sum(1)
        self.loglik.setdefault(name, []).append(each.double().numpy())

    def calibrate(self, log_probs: Tensor, steps: Steps, kept: Tensor) -> None:
        """Keep what was predicted and what happened, for no click and for every slot."""
        chance = log_probs[kept].exp()
        slot = steps.click_idx[kept]
        self.chance["no_click"].append(chance[:, 0].numpy())
        self.happened["no_click"].append((slot == 0).numpy())
        filled = steps.filled()[kept][:, 1:]
        clicked = torch.arange(1, chance.shape[1]) == slot[:, None]
        self.chance["click"].append(chance[:, 1:][filled].numpy())
        self.happened["click"].append(clicked[filled].numpy())

    def report(self, model: Trained) -> dict[str, Any]:
        """The figures in the house's shape."""
        if not self.users or not sum(len(users) for users in self.users):
            raise DataError("there is no user to score.")
        number = np.concatenate(self.steps)
        loglik = {name: np.concatenate(parts) for name, parts in self.loglik.items()}
        found = {name: np.concatenate(parts) for name, parts in self.found.items()}
        total = int(number.sum())
        rows: dict[str, dict[str, Any]] = {}
        for name in ("model", *LIKELIHOODS, "popularity", "last_group", "random", "linear"):
            row: dict[str, Any] = {}
            if name in loglik:
                row["loglik"] = float(loglik[name].sum() / total) if total else None
            if name in found:
                row[f"hits@{self.k}"] = float(found[name].mean())
                # the expectation of random items has no 0/1 rate
                rate = None if name == "random" else float((found[name] > 0).mean())
                row[f"hitrate@{self.k}"] = rate
            if row:
                rows[name] = row
        ours = rows.pop("model")
        ours["calibration"] = {
            name: calibration(np.concatenate(self.chance[name]), np.concatenate(self.happened[name]))
            for name in self.chance
        }
        ours |= self.intervals(loglik["model"], number, found["model"])
        items = [
            {
                "user": user.item() if hasattr(user, "item") else str(user),
                "steps": int(steps),
                "loglik": float(sum_ / steps) if steps else None,
                f"hits@{self.k}": int(hit),
                "clicked": truth,
            }
            for user, steps, sum_, hit, truth in zip(
                np.concatenate(self.users), number, loglik["model"], found["model"], self.truths, strict=True
            )
        ]
        return {
            "n": len(items),
            "steps": total,
            "model": ours,
            "baselines": rows,
            "items": items,
            "protocol": {
                **PROTOCOL,
                "k": self.k,
                "kind": self.kind or "all",
                "weights": model.name,
                "trained_on": model.card.data,
                "unit": model.card.unit,
            },
        }

    def intervals(self, loglik: np.ndarray, steps: np.ndarray, found: np.ndarray) -> dict[str, float]:
        """95 % intervals over users."""
        random = np.random.default_rng(self.seed)
        chosen = random.integers(0, len(steps), (500, len(steps)))
        means = loglik[chosen].sum(1) / np.maximum(steps[chosen].sum(1), 1)
        hit = found[chosen].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        hit_low, hit_high = np.quantile(hit, (0.025, 0.975))
        return {
            "loglik_low": float(low),
            "loglik_high": float(high),
            f"hits@{self.k}_low": float(hit_low),
            f"hits@{self.k}_high": float(hit_high),
        }


def best(model: Trained, history: Steps, k: int) -> np.ndarray:
    """The k best items (B, k) of a batch after a history."""
    scores = model.network.rank(history).double().numpy().copy()
    scores[:, :FIRST] = -np.inf
    return top(scores, k)


def in_catalogue(slates: Slates, known: Catalogue) -> Slates:
    """A log in the numbers of a model.

    Raises:
        DataError: the log's groups are of another catalogue, or its items lie beyond this one.
    """
    own = slates.catalogue
    if own.names is not None and own.names != known.names:
        numbers = known.numbers(own.names)
        numbers[:FIRST] = np.arange(FIRST)
        if (numbers[FIRST:] < FIRST).mean() > 0.5:
            raise DataError(f"{slates.source}: most of its items are not in the catalogue of these weights.")
        slate = numbers[np.asarray(slates.slate)]
        return replace(slates, slate=slate, click=numbers[np.asarray(slates.click)], catalogue=known)
    largest = int(np.asarray(slates.slate).max(initial=0))
    if largest >= len(known):
        raise DataError(
            f"{slates.source}: item {largest} is beyond the {len(known)} of these weights; "
            "were they trained on another catalogue?"
        )
    if len(own) == len(known) and own.group.any() and (own.group != known.group).any():
        different = int((own.group != known.group).sum())
        raise DataError(
            f"{slates.source}: {different} of {len(known)} items stand in other groups than in these "
            "weights; this is the group table of another catalogue."
        )
    return replace(slates, catalogue=known)


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    k = report["protocol"]["k"]
    rows = [("model", report["model"]), *report["baselines"].items()]
    out = [f"{report['n']} users, {report['steps']} steps; {report['protocol']['hits']}."]
    out.append(f"{'':<14}  log likelihood   hits@{k}   hitrate@{k}")
    for name, row in rows:
        cells = [row.get("loglik"), row.get(f"hits@{k}"), row.get(f"hitrate@{k}")]
        words = ["-" if cell is None else f"{cell:.4f}" for cell in cells]
        out.append(f"{name:<14}  {words[0]:>14}  {words[1]:>8}  {words[2]:>10}")
    errors = {name: part["ece"] for name, part in report["model"]["calibration"].items()}
    told = ", ".join(f"{name} {error:.3f}" for name, error in errors.items() if error is not None)
    out.append(f"expected calibration error: {told}")
    return out
