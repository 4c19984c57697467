"""The online loop: policies play the same worlds with the same luck, and learn from what they showed.

Choice: logit(slot k) = -2.16 |z - v| + q - .445 ln k, no click -.5. Interests drift (.06), jump (.04) to
another group and are pulled (.2) by clicks. What a policy does not know are the items: it holds independent
normals for every v and q (prior: the group's centre and spread), and after each round takes one Gauss-Newton
step with the predicted chances p:

    lambda_q += p (1 - p),  lambda_v += p (1 - p) g^2,  g = 2.16 (z - m) / |z - m|
    q += sum (y - p) / lambda_q,  v += sum (y - p) g / lambda_v

The environment has a generator of its own with a fixed order of draws, so policies are paired by seed. A
user's position is told up to noise (`known`), or estimated from the clicks by a linear state (`estimated`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.errors import ConfigError
from core.metrics.bootstrap import mean_interval
from recsys.policies.slates import top
from recsys.predict import stable

SCALE, ETA, NOTHING = 2.16, 0.445, -0.5
DRIFT, JUMP, LANDING, PULL, NOISE, QUALITY = 0.06, 0.04, 0.4, 0.2, 0.1, 1.5
LAST = 50
"""Rounds whose clicks are reported."""
POSITIONS = ("known", "estimated")
NAMES = ("greedy", "eps", "ts", "inslate", "random")


@dataclass(frozen=True)
class Town:
    """A world of the comparison."""

    items: int
    groups: int
    users: int
    slots: int
    rounds: int = 150
    dims: int = 6


def town_of(impressions: float) -> Town:
    """A town of 300 items with so many impressions an item over 150 rounds.

    Raises:
        ConfigError: fewer than three, or more than a thousand.
    """
    if not 3 <= impressions <= 1000:
        raise ConfigError(f"impressions an item lie between 3 and 1,000, got {impressions:g}.")
    return Town(300, 10, max(2, round(impressions * 300 / (3 * 150))), 3)


WORLDS = {"dense": Town(300, 12, 60, 5), "sparse": Town(600, 10, 16, 3)}
"""150 impressions an item, and 12."""


@dataclass(frozen=True)
class Player:
    """A policy with its temperature (epsilon of `eps`)."""

    policy: str
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in NAMES:
            raise ConfigError(f"simulate compare plays {', '.join(NAMES)}; got {self.policy!r}.")
        if not 0 <= self.temperature < 100:
            raise ConfigError(f"temperature is a number of at least 0, got {self.temperature}.")

    @property
    def name(self) -> str:
        """Such as `inslate .3`."""
        return self.policy if self.policy in ("greedy", "random") else f"{self.policy} {self.temperature:g}"


@dataclass(frozen=True)
class Played:
    """One policy in one world with one seed; arrays by round."""

    regret: np.ndarray
    clicks: np.ndarray
    predicted: np.ndarray
    diversity: float
    groups: float
    coverage: float


def players(policies: Sequence[str], temperatures: Sequence[float]) -> list[Player]:
    """Greedy first, then every policy at every temperature that means something for it."""
    found = [Player("greedy")]
    for policy in policies:
        if policy == "random":
            found.append(Player("random"))
        elif policy == "eps":
            found.append(Player("eps", 0.1))
        elif policy != "greedy":
            found += [Player(policy, float(value)) for value in temperatures if value > 0]
    return list(dict.fromkeys(found))


def play(town: Town, player: Player, seed: int, position: str = "known") -> Played:
    """One policy in one world."""
    world = np.random.default_rng([seed, 1])
    own = np.random.default_rng([seed, 2, stable(player.name) % 2**32])
    count, dims, slots = town.items, town.dims, town.slots
    popularity = world.dirichlet(np.full(town.groups, 1.5))
    popularity = np.maximum(popularity, 0.3 / town.groups)
    popularity /= popularity.sum()
    sizes = slots + world.multinomial(count - slots * town.groups, popularity)
    group = np.repeat(np.arange(town.groups), sizes)
    centre = 0.9 * world.standard_normal((town.groups, dims))
    spread = world.uniform(0.14, 0.5, town.groups)
    v = centre[group] + spread[group, None] * world.standard_normal((count, dims))
    q = QUALITY * world.standard_normal(count)
    z = centre[world.choice(town.groups, town.users, p=popularity)]
    z = z + LANDING * world.standard_normal(z.shape)
    log_slot = ETA * np.log(np.arange(1, slots + 1))
    mean_v, mean_q = centre[group].copy(), np.zeros(count)
    precision_v = np.repeat(1 / spread[group, None] ** 2, dims, 1)
    precision_q = np.full(count, 1 / QUALITY**2)
    believed = np.repeat((popularity @ centre)[None], town.users, 0)
    regret, clicks, predicted = (np.zeros(town.rounds) for _ in range(3))
    seen = np.zeros(count, bool)
    diversity = groups = 0.0
    rows = np.arange(town.users)[:, None]
    for number in range(town.rounds):
        leaves = world.random(town.users) < JUMP
        target = world.choice(town.groups, town.users, p=popularity)
        noise = world.standard_normal(z.shape)
        drift = world.standard_normal(z.shape)
        told = world.standard_normal(z.shape)
        luck = world.random(town.users)
        z = np.where(leaves[:, None], centre[target] + LANDING * noise, z + DRIFT * drift)
        here = z + NOISE * told if position == "known" else believed
        score, deviation = belief(here, mean_v, mean_q, precision_v, precision_q)
        slate = chosen(player, score, deviation, slots, own)
        # what is true
        gap = z[:, None] - v[slate]
        utility = -SCALE * np.sqrt((gap**2).sum(-1)) + q[slate] - log_slot
        p = softmax(utility)
        best = -SCALE * between(z, v) + q
        best = -np.sort(-best, 1)[:, :slots] - log_slot
        regret[number] = (p[:, 0] - softmax(best)[:, 0]).mean()
        slot = (p.cumsum(1) < luck[:, None]).sum(1).clip(0, slots)
        clicks[number] = (slot > 0).mean()
        # what the policy makes of it
        offset = here[:, None] - mean_v[slate]
        length = np.sqrt((offset**2).sum(-1) + 1e-9)
        believed_p = softmax(-SCALE * length + mean_q[slate] - log_slot)
        predicted[number] = 1 - believed_p[:, 0].mean()
        chance = believed_p[:, 1:]
        weight = chance * (1 - chance)
        slope = SCALE * offset / length[..., None]
        error = (slot[:, None] == np.arange(1, slots + 1)) - chance
        np.add.at(precision_q, slate, weight)
        np.add.at(precision_v, slate, weight[..., None] * slope**2)
        step_q, step_v = np.zeros(count), np.zeros_like(mean_v)
        np.add.at(step_q, slate, error)
        np.add.at(step_v, slate, error[..., None] * slope)
        mean_q += step_q / precision_q
        mean_v += step_v / precision_v
        hit = slot > 0
        item = slate[rows[:, 0], np.maximum(slot - 1, 0)]
        z = np.where(hit[:, None], z + PULL * (v[item] - z), z)
        believed = np.where(hit[:, None], believed + 0.5 * (mean_v[item] - believed), believed)
        seen[slate] = True
        pairs = np.sqrt(((v[slate][:, :, None] - v[slate][:, None]) ** 2).sum(-1))
        diversity += pairs.sum() / (town.users * slots * max(slots - 1, 1))
        groups += np.mean([len(set(row)) for row in group[slate]])
    share = town.rounds
    return Played(regret, clicks, predicted, diversity / share, float(groups / share), float(seen.mean()))


def belief(
    here: np.ndarray, mean_v: np.ndarray, mean_q: np.ndarray, precision_v: np.ndarray, precision_q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (U, I) of every item's score for positions (U, D)."""
    offset = here[:, None] - mean_v  # (U, I, D)
    square = offset**2
    length = square.sum(-1)
    variance = SCALE**2 * (square / precision_v).sum(-1) / np.maximum(length, 1e-9) + 1 / precision_q
    return -SCALE * np.sqrt(length) + mean_q, np.sqrt(variance)


def chosen(
    player: Player, score: np.ndarray, deviation: np.ndarray, slots: int, random: np.random.Generator
) -> np.ndarray:
    """Slates (U, K)."""
    users, count = score.shape
    if player.policy == "random":
        return np.argsort(random.random(score.shape), 1)[:, :slots]
    if player.policy == "inslate" and player.temperature:
        slates, taken = np.empty((users, slots), np.int64), np.zeros(score.shape, bool)
        for slot in range(slots):
            draw = score + player.temperature * deviation * random.standard_normal(score.shape)
            slates[:, slot] = np.where(taken, -np.inf, draw).argmax(1)
            taken[np.arange(users), slates[:, slot]] = True
        return slates
    if player.policy == "ts":
        score = score + player.temperature * deviation * random.standard_normal(score.shape)
    slates = top(score, slots)  # items that nobody has seen are level: which of them comes is no accident
    if player.policy == "eps":
        explores = random.random(slates.shape) < player.temperature
        others = random.integers(0, count, slates.shape)
        for row, slot in np.argwhere(explores):
            if others[row, slot] not in slates[row]:
                slates[row, slot] = others[row, slot]
    return slates


def softmax(utility: np.ndarray) -> np.ndarray:
    """P(nothing, slots) (U, K + 1)."""
    logits = np.concatenate([np.full((len(utility), 1), NOTHING), utility], 1)
    weight = np.exp(logits - logits.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


def between(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """|z - v| (U, I)."""
    return np.sqrt(np.maximum((z**2).sum(1)[:, None] + (v**2).sum(1) - 2 * z @ v.T, 0))


def compare(
    worlds: Sequence[str | Town] = ("dense", "sparse"),
    policies: Sequence[str] = ("ts", "inslate", "eps"),
    temperatures: Sequence[float] = (0.1, 0.3, 0.5, 1.0),
    seeds: int = 10,
    *,
    rounds: int = 150,
    positions: Sequence[str] = POSITIONS,
    horizons: Sequence[int] = (),
    seed: int = 0,
    progress: Any = None,
) -> dict[str, Any]:
    """Every policy in every world with paired seeds, as differences to greedy with 95 % intervals.

    Args:
        horizons: rounds after which the differences are told, too; the last one always is.

    Raises:
        ConfigError: an unknown world, policy or position; fewer than two seeds; a horizon beyond the rounds.
    """
    for name in worlds:
        if isinstance(name, str) and name not in WORLDS:
            raise ConfigError(f"no world {name!r}; there are {', '.join(WORLDS)}.")
    if seeds < 2 or rounds < 2:
        raise ConfigError(f"intervals need at least 2 seeds and 2 rounds, got {seeds} and {rounds}.")
    for horizon in horizons:
        if not 1 <= horizon <= rounds:
            raise ConfigError(f"a horizon lies between 1 and the {rounds} rounds, got {horizon}.")
    contestants = players(policies, temperatures)
    answer: dict[str, Any] = {"seeds": seeds, "rounds": rounds, "worlds": {}}
    for world in worlds:
        town = WORLDS[world] if isinstance(world, str) else world
        name = world if isinstance(world, str) else f"{town.items} items, {town.users} people"
        town = replace(town, rounds=rounds)
        for position in positions:
            if position not in POSITIONS:
                raise ConfigError(f"position is {' or '.join(POSITIONS)}, got {position!r}.")
            rows = {}
            base = [play(town, contestants[0], seed + n, position) for n in range(seeds)]
            for player in contestants:
                played = (
                    base
                    if player.policy == "greedy"
                    else [play(town, player, seed + n, position) for n in range(seeds)]
                )
                rows[player.name] = summary(played, base, horizons)
                if progress is not None:
                    progress(f"{name}, position {position}: {player.name}")
            drawn = [key for key in rows if key.startswith(("ts", "inslate"))]
            best = min(rows, key=lambda key: rows[key]["regret"])
            answer["worlds"][f"{name}, position {position}"] = {
                "town": vars(town),
                "impressions_per_item": town.users * town.slots * town.rounds / town.items,
                "best": best,
                "explores_best": min(drawn, key=lambda key: rows[key]["regret"]) if drawn else None,
                "policies": rows,
            }
    return answer


def summary(played: list[Played], base: list[Played], horizons: Sequence[int] = ()) -> dict[str, Any]:
    """Figures of a policy over seeds, and its paired differences to greedy."""
    total = np.array([one.regret.sum() for one in played])
    clicks = np.array([one.clicks[-LAST:].mean() for one in played])
    curve = np.mean([one.regret.cumsum() for one in played], 0)
    greedy = np.mean([one.regret.cumsum() for one in base], 0)
    row: dict[str, Any] = {
        **mean_interval(total).as_dict("regret"),
        **mean_interval(total - [one.regret.sum() for one in base]).as_dict("regret_difference"),
        **mean_interval(clicks).as_dict("clicks"),
        **mean_interval(clicks - [one.clicks[-LAST:].mean() for one in base]).as_dict("clicks_difference"),
        "diversity": float(np.mean([one.diversity for one in played])),
        "distinct_groups": float(np.mean([one.groups for one in played])),
        "coverage": float(np.mean([one.coverage for one in played])),
        "predicted_clicks": float(np.mean([one.predicted for one in played])),
        "observed_clicks": float(np.mean([one.clicks for one in played])),
        "curve": [float(value) for value in curve],
    }
    row["at"] = {
        str(horizon): mean_interval(
            [
                one.regret[:horizon].sum() - other.regret[:horizon].sum()
                for one, other in zip(played, base, strict=True)
            ]
        ).as_dict("regret_difference")
        for horizon in horizons
    }
    above = np.flatnonzero(curve >= greedy)
    pays = int(above[-1]) + 1 if len(above) else 0
    row["pays_after"] = None if pays >= len(curve) else pays
    return row


def lines(answer: dict[str, Any]) -> list[str]:
    """The comparison for people."""
    count = f"{answer['seeds']} paired seeds, {answer['rounds']} rounds"
    out = [f"{count}; differences to greedy with 95 % intervals."]
    for name, world in answer["worlds"].items():
        out.append("")
        out.append(f"{name} ({world['impressions_per_item']:.0f} impressions per item)")
        out.append(
            f"  {'policy':<12} {'regret':>7}  {'difference to greedy':>24}  {'clicks':>6}  {'cover':>5}  "
            f"{'divers.':>7}  {'said':>5}  {'seen':>5}  pays after"
        )
        for policy, row in world["policies"].items():
            low, high = row["regret_difference_low"], row["regret_difference_high"]
            gap = "" if policy == "greedy" else f"{row['regret_difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
            after = "-" if row["pays_after"] is None or policy == "greedy" else f"round {row['pays_after']}"
            out.append(
                f"  {policy:<12} {row['regret']:7.2f}  {gap:>24}  {row['clicks']:6.3f}  "
                f"{row['coverage']:5.2f}  {row['diversity']:7.2f}  {row['predicted_clicks']:5.2f}  "
                f"{row['observed_clicks']:5.2f}  {after}"
            )
            for horizon, gaps in row["at"].items() if policy != "greedy" else ():
                low, high = gaps["regret_difference_low"], gaps["regret_difference_high"]
                told = f"{gaps['regret_difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
                out.append(f"  {'after round ' + horizon:>20}  {told:>24}")
        out.append(f"  best: {world['best']}")
    return out
