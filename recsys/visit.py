"""One person before the shelf: what every policy would show, what it is worth, and what a click tells.

Visitors live in the simulator's market that the bundled `recsys-simulated` weights know from other users, so
the chance of a click on any slate is known and regret can be shown as it happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from core.errors import ConfigError
from recsys.history import Event, History, steps_from
from recsys.model import SlateModel, load_model
from recsys.predict import Slate, recommend
from recsys.simulator import Market, SimulatedLog, World, choice, distances, oracle_chance, simulate_log
from recsys.slates import FIRST, RECOMMENDATION

WEIGHTS = "recsys-simulated"
"""Weights of the market."""
KNOWN = 5
"""Steps that a visitor brings along."""
VISITORS = 64
STRANGERS = 10_000
"""Seed from which visitors are drawn: no training has it."""


@dataclass(frozen=True)
class ShelfShown:
    """A policy's slate with its truth."""

    slate: Slate
    chance: np.ndarray
    """(K,) true probability of a click on each slot."""
    regret: float
    """P(click) of the best slate less that of this one."""
    diversity: float
    """Mean distance of its items in truth."""

    @property
    def clicked(self) -> float:
        """P(click) in truth."""
        return float(self.chance.sum())


@dataclass(frozen=True)
class Visit:
    """A visitor, what they did, where their interest truly is."""

    number: int
    events: tuple[Event, ...]
    interest: np.ndarray
    """(D,) in truth."""

    @property
    def history(self) -> History:
        """For a model."""
        return History(self.events, f"visitor {self.number}")


LEAVING = -0.5
"""Logit of no click at the shelf, as in the comparison: visitors here leave easily, so slates can differ."""


@lru_cache(maxsize=1)
def shop() -> Market:
    """The market as its visitors meet it."""
    market = visitors().market
    return replace(market, world=replace(market.world, nothing_rec=LEAVING))


@lru_cache(maxsize=1)
def visitors() -> SimulatedLog:
    """People of the market whom no weights have seen."""
    return simulate_log(World(), VISITORS, seed=STRANGERS)


def arrive(number: int) -> Visit:
    """A visitor with their first steps.

    Raises:
        ConfigError: there are not as many.
    """
    if not 0 <= number < VISITORS:
        raise ConfigError(f"visitors are numbered 0 to {VISITORS - 1}, got {number}.")
    log = visitors()
    events = []
    for t in range(KNOWN):
        shown = log.slates.slate[number, t, 1 : log.slates.lengths[number, t]]
        slot, kind = int(log.slates.click_idx[number, t]), int(log.slates.kind[number, t])
        events.append(Event(tuple(int(item) for item in shown), slot, kind))
    return Visit(number, tuple(events), log.interest[number, KNOWN].astype(np.float64))


def shelf(
    visit: Visit,
    policies: Sequence[str],
    k: int = 6,
    *,
    temperature: float = 0.3,
    seed: int = 0,
    model: SlateModel | None = None,
    explain: bool = True,
) -> dict[str, ShelfShown]:
    """What each policy shows the visitor now."""
    model = model or load_model(WEIGHTS)
    market = shop()
    best = float(oracle_chance(market, visit.interest[None], k)[0])
    answer = {}
    for policy in policies:
        slate = recommend(
            model,
            visit.history,
            k,
            policy,
            seed,
            period=len(visit.events),
            temperature=temperature if policy.startswith(("ts", "inslate")) else None,
            explain=explain,
        )
        chance = true_chances(market, visit.interest, [int(item) for item in slate.items])
        v = market.v[np.array(slate.items, int) - FIRST]
        gaps = distances(v, v)
        spread = float(gaps.sum() / max(k * (k - 1), 1))
        answer[policy] = ShelfShown(slate, chance, best - float(chance.sum()), spread)
    return answer


def true_chances(market: Market, interest: np.ndarray, items: Sequence[int]) -> np.ndarray:
    """(K,) probability of a click on each slot of a recommended slate."""
    world = market.world
    index = np.array(items) - FIRST
    utility = -world.scale * distances(interest[None], market.v[index]) + market.quality[index]
    nothing = np.full(1, world.nothing_rec + world.nothing_length * np.log(len(index) + 1))
    log_slot = np.log(np.arange(1, len(index) + 1))
    return choice(world, utility, log_slot, nothing, np.ones(utility.shape, bool))[0, 1:]


def click(visit: Visit, items: Sequence[int], slot: int) -> Visit:
    """The visit after the slate `items`: slot 1..K was clicked, or 0 for nothing; interest is pulled along.

    Raises:
        ConfigError: no such slot.
    """
    if not 0 <= slot <= len(items):
        raise ConfigError(f"slots are 1 to {len(items)}, or 0 for nothing; got {slot}.")
    market, interest = shop(), visit.interest
    if slot:
        interest = interest + market.world.pull * (market.v[items[slot - 1] - FIRST] - interest)
    event = Event(tuple(int(item) for item in items), slot, RECOMMENDATION)
    return replace(visit, events=(*visit.events, event), interest=interest)


def beliefs(visit: Visit, model: SlateModel | None = None, draws: int = 12) -> dict[str, Any]:
    """What the model thinks: chance of each group with its spread, and a map of groups and interests.

    The map has two axes, the directions in which the groups lie farthest apart.
    """
    model = model or load_model(WEIGHTS)
    network, steps = model.network, steps_from([visit.history])
    group = torch.from_numpy(model.catalogue.group)
    groups = model.catalogue.groups
    with torch.inference_mode():

        def shares(draw: Any) -> np.ndarray:
            chance = network.rank(steps, draw)[0].softmax(0)
            return torch.zeros(groups).index_add(0, group, chance).numpy()

        mean = shares(None)
        drawn = [shares(network.draw(torch.Generator().manual_seed(n), 1.0)) for n in range(draws)]
        tables = network.items.tables()
        h, traces, _ = network.encode(tables, steps)
        last = steps.ends
        seen = network.look(network.later, h[:, last[0]], traces[:, last[0]], None)
        centre = network.items.centre[FIRST:].numpy()
        middle = centre.mean(0)
        axes = np.linalg.svd(centre - middle, full_matrices=False)[2][:2]
        clicked = [event.shown[event.slot - 1] for event in visit.events if event.slot]
    return {
        "group": list(range(FIRST, groups)),
        "mean": mean[FIRST:].tolist(),
        "spread": np.std(drawn, 0)[FIRST:].tolist(),
        "places": ((centre - middle) @ axes.T).tolist(),
        "interest": ((seen.z[0].numpy() - middle) @ axes.T).tolist(),
        "clicked": ((tables.v[clicked].numpy() - middle) @ axes.T).tolist() if clicked else [],
    }


def strolls(
    policies: Sequence[str],
    *,
    count: int = 24,
    rounds: int = 15,
    k: int = 6,
    temperature: float = 0.3,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Visitors who meet a policy's slates for some rounds: regret, clicks and diversity, with paired luck."""
    model, market = load_model(WEIGHTS), shop()
    answer = {}
    for policy in policies:
        luck = np.random.default_rng(seed)
        regret, clicks, diversity = np.zeros(rounds), np.zeros(rounds), np.zeros(rounds)
        for number in range(min(count, VISITORS)):
            visit = arrive(number)
            for t in range(rounds):
                drift = luck.standard_normal(market.world.dims)
                visit = replace(visit, interest=visit.interest + market.world.drift * drift)
                shown = shelf(
                    visit, [policy], k, temperature=temperature, seed=seed, model=model, explain=False
                )[policy]
                slot = int((np.cumsum([1 - shown.clicked, *shown.chance]) < luck.random()).sum())
                visit = click(visit, [int(item) for item in shown.slate.items], min(slot, k))
                regret[t] += shown.regret
                clicks[t] += slot > 0
                diversity[t] += shown.diversity
        people = min(count, VISITORS)
        answer[policy] = {
            "regret": np.cumsum(regret / people).tolist(),
            "clicks": float(clicks.mean() / people),
            "diversity": float(diversity.mean() / people),
        }
    return answer
