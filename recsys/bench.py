"""Speed of retrieval, of draws, of clicks, of the simulator and of training, beside the bare products.

`recurra bench recsys`. One thread unless `--threads` says otherwise; the million items take 0.6 GB.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from recsys.retrieval.exact import ItemIndex

ITEMS, DIMS, TOP, USERS = 1_000_000, 64, 100, 32
SIZES = f"{ITEMS:,} items x {DIMS}, top {TOP}"
BATCH = 256
Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Each beside its peer or under its limit."""
    return [
        Case("recsys top-k, 1 user", SIZES, top_one, "bare matvec", target=1.4, repeats=7),
        Case("recsys top-k, 32 users", SIZES, top_many, "bare product Z @ V.T", target=1.0, repeats=5),
        Case("recsys Thompson, 1 user", SIZES, draw_one, "greedy", target=2.0, repeats=7),
        Case("recsys Thompson, 32 users", SIZES, draw_many, "greedy", target=2.5, repeats=5),
        Case(
            "recsys clicks kept", f"{BATCH} users, SQLite", clicks, limit_us=BATCH / 20_000 * 1e6, repeats=7
        ),
        Case("recsys simulator", "1,000 users x 20 steps", market, limit_us=20_000 / 1e5 * 1e6, repeats=5),
        Case("recsys training step", "128 users x 20 steps", learning, repeats=7),
        Case("recsys recommend", "3,000 items, in-slate, 10 slots", recommended, repeats=7),
    ]


@lru_cache(maxsize=1)
def index() -> tuple[ItemIndex, np.ndarray]:
    """A clustered table of a million items with spreads, and users near the clusters."""
    random = np.random.default_rng(0)
    centre = random.standard_normal((500, DIMS)).astype(np.float32)
    means = centre[random.integers(0, 500, ITEMS)] + 0.5 * random.standard_normal((ITEMS, DIMS), np.float32)
    spread = random.uniform(0.05, 0.3, ITEMS).astype(np.float32)
    users = centre[:USERS] + 0.3 * random.standard_normal((USERS, DIMS), np.float32)
    return ItemIndex(means, spread), users


def top_one() -> Calls:
    table, users = index()
    return lambda: table.top(users[:1], TOP), lambda: table.means @ users[0]


def top_many() -> Calls:
    table, users = index()
    return lambda: table.top(users, TOP), lambda: users @ table.means.T


def draw_one() -> Calls:
    table, users = index()
    return lambda: table.thompson(users[:1], TOP, 0), lambda: table.top(users[:1], TOP)


def draw_many() -> Calls:
    table, users = index()
    return lambda: table.thompson(users, TOP, 0), lambda: table.top(users, TOP)


def clicks() -> Calls:
    """A micro-batch of clicks: keys, one unit step for all, states and last clicks written."""
    from recsys.serve.engine import Engine
    from recsys.serve.store import Click, Store

    engine = Engine("recsys-simulated", Store(Path(mkdtemp()) / "bench.db"))
    count = iter(range(10**9))

    def batch() -> None:
        number = next(count)
        engine.click([Click(f"u{user}", str(3 + user), f"{user}-{number}") for user in range(BATCH)])

    return batch, None


def market() -> Calls:
    from recsys.simulator import World, simulate_log

    world = World()
    return lambda: simulate_log(world, 1000), None


def learning() -> Calls:
    """Forward and backward of a batch, without the optimiser."""
    from recsys.config import InterestConfig
    from recsys.features import steps_of
    from recsys.loss import later_loss, slate_loss
    from recsys.models.interest import InterestNetwork
    from recsys.simulator import World, simulate_log

    slates = simulate_log(World(), 128).slates
    network = InterestNetwork(InterestConfig(), torch.from_numpy(slates.catalogue.group), slates.slots)
    steps, at_step = steps_of(slates), torch.full((128,), 5)

    def step() -> None:
        slots, items, divergence = network(steps, at_step, network.items.noise())
        loss = slate_loss(slots, steps) + later_loss(items, steps, at_step) + 1e-6 * divergence
        loss.backward()

    return step, None


def recommended() -> Calls:
    from recsys.predict import load_model, recommend

    model = load_model("recsys-simulated")
    return lambda: recommend(model, [40, 90, 300, 1200, 77], 10, "inslate"), None
