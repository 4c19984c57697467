"""Training of the slate models: a step for the one loop of core."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core.config import to_dict
from core.errors import ConfigError
from core.training import Outcome, ShuffledBatches, check_folder
from core.training import train as run_loop
from core.weights import Card
from recsys.baselines import Counted, count
from recsys.config import FilterRun, PaperRun, SlateConfig
from recsys.data import Slates
from recsys.features import Steps, steps_of
from recsys.loss import later_loss, slate_loss
from recsys.model import equip
from recsys.models.interest import InterestNetwork

FIFTH = 5
"""The step that hits are asked from; drawn oftener than the others."""
SHARE = 0.4
"""Of the draws that it gets."""


class UserBatches:
    """Rows of a batch -> (steps, the step to look ahead from, noise of the item table)."""

    def __init__(self, slates: Slates, users: np.ndarray, noise: tuple[int, ...] | None) -> None:
        self.steps, self.users, self.noise = steps_of(slates, users), users, noise

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor, Tensor | None]:
        steps = self.steps.rows(rows)
        count, last = len(rows), steps.slate.shape[1]
        at = torch.randint(last, (count,), generator=generator)
        often = torch.rand(count, generator=generator) < SHARE
        at = torch.where(often, min(FIFTH, last - 1), at)
        noise = None if self.noise is None else torch.randn(self.noise, generator=generator)
        return steps, at, noise


def train(
    slates: Slates,
    out: str | Path,
    config: SlateConfig | FilterRun | PaperRun | None = None,
    *,
    start: str | Path | None = None,
    users: np.ndarray | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train a slate model into the run folder `out`: our network, the filter from one, the paper's model.

    Raises:
        ConfigError: settings that contradict each other or the data.
    """
    check_folder(out, resume)
    config = SlateConfig() if config is None else config
    if isinstance(config, FilterRun):
        from recsys.train_filter import train_filter

        if start is None:
            raise ConfigError("the filter starts from the items of a network: give its weights.")
        return train_filter(config, slates, out, start, users=users, resume=resume, quiet=quiet)
    if isinstance(config, PaperRun):
        from recsys.train_paper import train_paper

        return train_paper(config, slates, out, users=users, resume=resume, quiet=quiet)
    return train_interest(config, slates, out, users=users, resume=resume, quiet=quiet)


def train_interest(
    config: SlateConfig,
    slates: Slates,
    out: str | Path,
    *,
    users: np.ndarray | None = None,
    resume: bool = False,
    quiet: bool = False,
    card: Card | None = None,
) -> Outcome:
    """Train the interest network on these users (all of them when left out) into the run folder `out`."""
    users = np.arange(len(slates)) if users is None else users
    order = np.random.default_rng(config.seed).permutation(users)
    kept, learned = np.sort(order[: config.validation]), np.sort(order[config.validation :])
    if len(learned) < config.batch:
        raise ConfigError(
            f"{len(learned)} users are left for training, a batch wants {config.batch}; lower batch?"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = InterestNetwork(config.model, torch.from_numpy(slates.catalogue.group), slates.slots)
    counts = count(slates, users)
    equip(model, slates.catalogue, Counted(counts))
    with torch.no_grad():
        model.clicked.copy_(counts.clicked)
        shown = torch.zeros(len(model.popular)).index_add(0, model.items.group, counts.clicked)
        model.popular.copy_((shown + 1).log())
    make = UserBatches(slates, learned, None if config.point else tuple(model.items.mean.shape))
    total = float(make.steps.counted.sum())
    held = steps_of(slates, kept)

    def step(model: nn.Module, batch: tuple[Steps, Tensor, Tensor | None]) -> dict[str, Tensor]:
        steps, at_step, noise = batch
        slots, items, divergence = model(steps, at_step, noise)
        choice, later = slate_loss(slots, steps), later_loss(items, steps, at_step)
        loss = choice + config.later * later + config.kl * divergence / total
        return {"loss": loss, "choice": choice, "later": later, "kl": divergence / total}

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, InterestNetwork)
        with torch.no_grad():
            return {"loss": float(slate_loss(model.judge(held), held))}

    return run_loop(
        model,
        step,
        ShuffledBatches(len(learned), config.batch, make, config.seed),
        config.loop,
        out,
        validate=validate if len(kept) else None,
        settings=to_dict(config),
        seed=config.seed,
        card=card or describe(config, slates),
        resume=resume,
        quiet=quiet,
    )


def describe(config: SlateConfig, slates: Slates) -> Card:
    """What the weights are, in words."""
    return Card(
        task="recsys",
        unit=config.model.unit,
        data=f"{len(slates)} users of {Path(slates.source).name or 'the simulator'}",
        terms="generated: ours",
        extra={"kind": "interest", "slots": slates.slots, **names_of(slates)},
    )


def names_of(slates: Slates) -> dict[str, Any]:
    """External ids of the catalogue for the card, where they are not the numbers themselves."""
    names = slates.catalogue.names
    return {} if names is None else {"names": list(names)}
