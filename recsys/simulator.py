"""A market of users and items: logs in the slate layout with true click probabilities and propensities.

    group popularity ~ Dirichlet, v_i = G_g + spread_g xi, quality q_i
    interest z: jumps to another group, else drifts; a click pulls it towards the item
    a search shows items of a group near z, a recommendation what a policy says
    logit(slot) = -scale |z - v| + q - eta ln(slot)        logit(nothing) = b_kind + c ln(L)

Three choice models on the same utilities: `logit` (multinomial), `cascade` (from the top, stop at the first
click), `position` (one slot is looked at, by its place, and clicked or not). Everything is drawn for all
users at once; the same seed gives the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from core.errors import ConfigError
from recsys.slates import FIRST, NOTHING, RECOMMENDATION, SEARCH, Catalogue, Slates

RINGS = 48
"""Orders of a group's items that slates are cut out of: distinct items without a sort for every slate."""
CHOICES = ("logit", "cascade", "position")
POLICIES = ("group", "random")


@dataclass(frozen=True)
class World:
    """What a market is like."""

    items: int = 3000
    groups: int = 24
    dims: int = 6
    slots: int = 25  # with slot 0
    scale: float = 2.16  # of a distance
    eta: float = 0.445  # of the logarithm of the slot
    quality: float = 0.6
    drift: float = 0.06
    jump: float = 0.04
    landing: float = 0.4  # spread around the group that a jump leads to
    pull: float = 0.2
    search: float = 0.7  # share of slates that are searches
    length: float = 11.9  # mean of filled slots
    nothing_search: float = -3.2
    nothing_rec: float = -3.2
    nothing_length: float = 0.0
    sharpness: float = 2.0  # of the group that a search is for
    breadth: float = 0.5  # of the group that a recommendation is for, times the sharpness
    churn: float = 0.0  # share of the items that only the second half of the steps has
    choice: str = "logit"
    policy: str = "group"  # of recommendations: a group near the interest, or items at random
    used: float = 0.82  # mean share of the steps that a user makes
    market: int = 0  # seed of groups and items; users have their own

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise ConfigError(f"choice is one of {', '.join(CHOICES)}, got {self.choice!r}.")
        if self.policy not in POLICIES:
            raise ConfigError(f"policy is one of {', '.join(POLICIES)}, got {self.policy!r}.")
        if self.groups < 1 or self.slots < 3 or self.items < self.groups * self.slots:
            raise ConfigError(
                f"{self.items} items in {self.groups} groups do not fill slates of {self.slots - 1}; a group "
                f"needs {self.slots} items on average."
            )
        for name in ("drift", "jump", "pull", "search", "churn"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Market:
    """A drawn world."""

    world: World
    centre: np.ndarray
    """(G, D)"""
    popularity: np.ndarray
    """(G,)"""
    group: np.ndarray
    """(I,) from 0."""
    v: np.ndarray
    """(I, D)"""
    quality: np.ndarray
    """(I,)"""
    late: np.ndarray
    """(I,) items that only the second half has."""


@dataclass(frozen=True)
class SimulatedLog:
    """A log and its truth."""

    slates: Slates
    chance: np.ndarray
    """(U, T, S) true probability of each slot; slot 0 is no click."""
    propensity: np.ndarray
    """(U, T, S) chance of each recommended item given the slots before it; NaN in searches."""
    interest: np.ndarray
    """(U, T, D)"""
    market: Market


def draw_market(world: World, random: Generator) -> Market:
    """Groups, items, qualities."""
    popularity = random.dirichlet(np.full(world.groups, 1.5))
    popularity = np.maximum(popularity, 0.3 / world.groups)
    popularity /= popularity.sum()
    least = world.slots
    counts = least + random.multinomial(world.items - least * world.groups, popularity)
    group = np.repeat(np.arange(world.groups), counts)
    centre = 0.9 * random.standard_normal((world.groups, world.dims))
    spread = random.uniform(0.14, 0.5, world.groups)
    v = centre[group] + spread[group, None] * random.standard_normal((world.items, world.dims))
    quality = world.quality * random.standard_normal(world.items)
    late = random.random(world.items) < world.churn
    order = random.permutation(world.items)  # internal numbers tell nothing about groups
    return Market(world, centre, popularity, group[order], v[order], quality[order], late[order])


def rings(market: Market, keep: np.ndarray, length: int, random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Items of each group in several random orders (G, RINGS, M + length), and how many M there are (G,)."""
    members = [np.flatnonzero((market.group == g) & keep) for g in range(len(market.centre))]
    members = [m if len(m) > length else np.flatnonzero(market.group == g) for g, m in enumerate(members)]
    sizes = np.array([len(m) for m in members])
    table = np.zeros((len(members), RINGS, int(sizes.max()) + length), np.int64)
    for g, own in enumerate(members):
        for ring in range(RINGS):
            order = random.permutation(own)
            table[g, ring] = np.resize(order, table.shape[2])
    return table, sizes


def simulate_log(world: World, users: int = 2000, steps: int = 20, seed: int = 0) -> SimulatedLog:
    """Users who meet slates for some steps."""
    market = draw_market(world, np.random.default_rng(world.market))
    random = np.random.default_rng([seed, world.market, 1])
    width = world.slots - 1
    early = rings(market, ~market.late, width, random)
    full = rings(market, np.ones(world.items, bool), width, random)
    home = random.choice(world.groups, users, p=market.popularity)
    z = market.centre[home] + world.landing * random.standard_normal((users, world.dims))
    shape = (users, steps)
    slate = np.zeros((*shape, world.slots), np.int32)
    click_idx, lengths, kind = (np.zeros(shape, np.int16) for _ in range(3))
    chance, propensity = (np.zeros((*shape, world.slots), np.float32) for _ in range(2))
    interest = np.zeros((*shape, world.dims), np.float32)
    last = np.clip(
        random.binomial(steps, world.used, users) + random.integers(-2, 3, users), min(6, steps), steps
    )
    log_slot = np.log(np.arange(1, world.slots))
    for t in range(steps):
        z = walked(market, z, random)
        interest[:, t] = z
        table, sizes = early if t < steps // 2 else full
        search = random.random(users) < world.search
        nearness = -world.scale * distances(z, market.centre)
        sharp = np.where(search, world.sharpness, world.sharpness * world.breadth)[:, None] / world.scale
        group, share = drawn(sharp * nearness + np.log(market.popularity), random)
        filled = 1 + np.clip(random.geometric(1 / (world.length - 1.9), users) + 1, 2, width)
        start = (random.random(users) * sizes[group]).astype(np.int64)
        ring = random.integers(0, RINGS, users)
        place = (start[:, None] + np.arange(width)) % sizes[group][:, None]
        shown = table[group[:, None], ring[:, None], place]
        left = sizes[group][:, None] - np.arange(width)
        given = np.where(np.arange(width) == 0, share[:, None] / left, 1 / left)
        if world.policy == "random":
            flat = random.integers(0, world.items, users)
            any_item = (flat[:, None] + np.arange(width) * 7919) % world.items
            shown = np.where(search[:, None], shown, any_item)
            given = np.broadcast_to(1 / (world.items - np.arange(width)), given.shape)
        on = np.arange(width) < filled[:, None] - 1
        gap = np.sqrt(((z[:, None] - market.v[shown]) ** 2).sum(-1))
        utility = -world.scale * gap + market.quality[shown]
        bias = np.where(search, world.nothing_search, world.nothing_rec)
        bias = bias + world.nothing_length * np.log(filled)  # (B,)
        p = choice(world, utility, log_slot, bias, on)
        slot = (p.cumsum(1) < random.random(users)[:, None]).sum(1).clip(0, width)
        slot = np.where(p[np.arange(users), slot] > 0, slot, 0)
        live = t < last
        hit = live & (slot > 0)
        item = shown[np.arange(users), np.maximum(slot - 1, 0)]
        z = np.where(hit[:, None], z + world.pull * (market.v[item] - z), z)
        slate[:, t, 0] = np.where(live, NOTHING, 0)
        slate[:, t, 1:] = np.where(on & live[:, None], shown + FIRST, 0)
        click_idx[:, t], lengths[:, t] = np.where(live, slot, 0), np.where(live, filled, 0)
        kind[:, t] = np.where(live, np.where(search, SEARCH, RECOMMENDATION), 0)
        chance[:, t] = p * live[:, None]
        propensity[:, t, 1:] = np.where(on & ~search[:, None] & live[:, None], given, np.nan)
        propensity[:, t, 0] = np.nan
    click = np.take_along_axis(slate, click_idx[..., None].astype(np.int64), 2)[..., 0]
    groups = np.concatenate([np.arange(FIRST), FIRST + market.group])
    slates = Slates(
        np.arange(users), slate, click, click_idx, lengths, kind, Catalogue(groups), f"simulated, seed {seed}"
    )
    return SimulatedLog(slates, chance, propensity, interest, market)


def simulate(users: int = 2000, steps: int = 20, seed: int = 0, **world: float | int | str) -> SimulatedLog:
    """`simulate_log` with settings of the world by name."""
    return simulate_log(World(**world), users, steps, seed)  # pyright: ignore[reportArgumentType]


def walked(market: Market, z: np.ndarray, random: Generator) -> np.ndarray:
    """Interests after a jump or a drift."""
    world = market.world
    jumps = random.random(len(z)) < world.jump
    target = random.choice(len(market.centre), len(z), p=market.popularity)
    landing = market.centre[target] + world.landing * random.standard_normal(z.shape)
    return np.where(jumps[:, None], landing, z + world.drift * random.standard_normal(z.shape))


def drawn(logits: np.ndarray, random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """A category of each row (B, G), and its chance."""
    weight = np.exp(logits - logits.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    chosen = (weight.cumsum(1) < random.random(len(logits))[:, None]).sum(1).clip(0, logits.shape[1] - 1)
    return chosen, weight[np.arange(len(logits)), chosen]


def distances(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """|z - v| for z (B, D), v (N, D)."""
    square = (z**2).sum(1)[:, None] + (v**2).sum(1) - 2 * z @ v.T
    return np.sqrt(np.maximum(square, 1e-12))


def choice(
    world: World, utility: np.ndarray, log_slot: np.ndarray, nothing: np.ndarray, on: np.ndarray
) -> np.ndarray:
    """P(slot) (B, S), slot 0 is no click, for utilities (B, S - 1) of the slots that are `on`."""
    if world.choice == "logit":
        logits = np.where(on, utility - world.eta * log_slot, -np.inf)
        logits = np.concatenate([nothing[:, None], logits], 1)
        weight = np.exp(logits - logits.max(1, keepdims=True))
        return weight / weight.sum(1, keepdims=True)
    attention = np.exp(-world.eta * log_slot)
    attracted = 1 / (1 + np.exp(-(utility - nothing[:, None])))
    if world.choice == "cascade":
        click = np.where(on, attention * attracted, 0.0)
        before = np.concatenate([np.ones_like(click[:, :1]), (1 - click).cumprod(1)[:, :-1]], 1)
        click = click * before
    else:
        look = np.where(on, attention, 0.0)
        click = look / look.sum(1, keepdims=True) * attracted
    return np.concatenate([1 - click.sum(1, keepdims=True), click], 1)


def oracle_chance(market: Market, z: np.ndarray, k: int) -> np.ndarray:
    """(B,) probability of a click on the best recommended slate of k items, for interests z (B, D)."""
    world = market.world
    utility = -world.scale * distances(z, market.v) + market.quality
    best = -np.sort(-utility, 1)[:, :k]
    nothing = np.full(len(z), world.nothing_rec + world.nothing_length * np.log(k + 1))
    p = choice(world, best, np.log(np.arange(1, k + 1)), nothing, np.ones(best.shape, bool))
    return 1 - p[:, 0]


def write_log(log: SimulatedLog, folder: str | Path) -> list[Path]:
    """The layout of the public dataset, with truth and propensities beside it."""
    import io

    from core.files import write_bytes

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    slates = log.slates
    small = np.int16 if len(slates.catalogue) < 2**15 else np.int32
    parts = {
        "data.npz": {
            "userId": slates.users.astype(np.int32),
            "slate": slates.slate.astype(small),
            "click": slates.click.astype(small),
            "click_idx": slates.click_idx.astype(np.int16),
            "slate_lengths": slates.lengths.astype(np.int16),
            "interaction_type": slates.kind.astype(np.int16),
        },
        "itemattr.npz": {"category": slates.catalogue.group.astype(np.int16)},
        "truth.npz": {
            "click_probability": log.chance.astype(np.float32),
            "propensity": log.propensity.astype(np.float32),
            "interest": log.interest.astype(np.float32),
        },
    }
    written = []
    for name, arrays in parts.items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        write_bytes(folder / name, buffer.getvalue())
        written.append(folder / name)
    return written
