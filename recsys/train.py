"""Training of the slate models: a step for the one loop of core."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core.errors import ConfigError
from core.training import Outcome, check_folder
from recsys.baselines import Counted, count, offers, telling
from recsys.config import FilterRun, PairRun, PaperRun, SlateConfig
from recsys.features import Steps
from recsys.loss import later_loss, offer_loss, slate_loss
from recsys.models.interest import InterestNetwork
from recsys.slates import RECOMMENDATION, Slates
from recsys.trained import equip
from recsys.training import describe, divided, fit, shown_by_group

FIFTH = 5
"""The step that hits are asked from; drawn oftener than the others."""
SHARE = 0.4
"""Of the draws that it gets."""
OFFERS = 2
"""Recommendation slates of a user in a batch that are explained."""


class UserBatches:
    """Rows of a batch -> (steps, the steps (B, looks) to look ahead from, steps (B, offers) with
    recommendation slates where the user has them, noise of the item table).
    """

    def __init__(
        self, steps: Steps, noise: tuple[int, ...] | None, looks: int = 1, offers: int = OFFERS
    ) -> None:
        self.steps, self.noise, self.looks, self.offers = steps, noise, looks, offers

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor, Tensor, Tensor | None]:
        steps = self.steps.rows(rows)
        count, last = len(rows), steps.slate.shape[1]
        at = torch.randint(last, (count, self.looks), generator=generator)
        often = torch.rand(count, self.looks, generator=generator) < SHARE
        at = torch.where(often, min(FIFTH, last - 1), at)
        luck = torch.rand(steps.kind.shape, generator=generator) + (steps.kind == RECOMMENDATION)
        offered = luck.topk(min(self.offers, luck.shape[1]), 1).indices
        noise = None if self.noise is None else torch.randn(self.noise, generator=generator)
        return steps, at, offered, noise


def train(
    slates: Slates,
    out: str | Path,
    config: SlateConfig | FilterRun | PaperRun | PairRun | None = None,
    *,
    start: str | Path | None = None,
    users: np.ndarray | None = None,
    split: str = "users",
    device: torch.device | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train a slate model into the run folder `out`: our network, a filter from one, both, the paper's model.

    Args:
        start: weights of the network whose items the filter starts from.
        users: rows of the log to learn from; all when left out.
        split: what chooses the best weights, see `recsys.training.divided`.

    Raises:
        ConfigError: settings that contradict each other or the data.
    """
    check_folder(out, resume)
    config = SlateConfig() if config is None else config
    if isinstance(config, PairRun):
        from recsys.train_pair import train_pair

        own = replace(config.network, seed=config.seed)
        config = replace(config, network=own, filter=replace(config.filter, seed=config.seed))
        held = divided(slates, users, own.validation, own.seed, split, own.batch).held
        stage = partial(train, slates, users=users, split=split, quiet=quiet)
        return train_pair(config, stage, held, out, resume=resume, device=device)
    parts = divided(slates, users, config.validation, config.seed, split, config.batch)
    if isinstance(config, FilterRun):
        from recsys.train_filter import train_filter

        if start is None:
            raise ConfigError("the filter starts from the items of a network: give its weights.")
        if device is not None and device.type != "cpu":
            raise ConfigError("the filter's dice are the CPU's: leave --device out.")
        return train_filter(config, parts, out, start, resume=resume, quiet=quiet)
    if isinstance(config, PaperRun):
        from recsys.train_paper import train_paper

        return train_paper(config, parts, out, device=device, resume=resume, quiet=quiet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = InterestNetwork(config.model, torch.from_numpy(slates.catalogue.group), slates.slots)
    counts = count(slates, parts.everybody)
    equip(model, slates.catalogue, Counted(counts))
    with torch.no_grad():
        model.clicked.copy_(counts.clicked)
        model.offered.copy_(offers(slates, parts.everybody))
        model.popular.copy_(shown_by_group(counts.clicked, model.items.group, len(model.popular)))
    steps = parts.training
    total = float(steps.counted.sum())
    told = telling(model.offered, torch.from_numpy(slates.catalogue.group))
    later, offered, kl = config.later, config.offered * min(1.0, 2 * told), config.kl / total

    def step(
        model: nn.Module, batch: tuple[Steps, Tensor, Tensor, Tensor | None], weight: float = 1.0
    ) -> dict[str, Tensor]:
        steps, at_step, at_offer, noise = batch
        slots, items, offers, divergence = model(steps, at_step, at_offer, noise)
        choice, ahead = slate_loss(slots, steps), later_loss(items, steps, at_step)
        loss = choice + later * ahead + weight * kl * divergence
        found = {"choice": choice, "later": ahead, "kl": divergence / total}
        if offered:
            found["offered"] = offer_loss(offers, steps, at_offer)
            loss = loss + offered * found["offered"]
        return {"loss": loss, **found}

    noise = None if config.point else model.items.noise_shape
    make = UserBatches(steps, noise, config.looks, OFFERS if offered else 0)
    card = describe(slates, config.model.unit, "interest")
    return fit(config, model, step, make, parts, out, card, resume=resume, quiet=quiet, device=device)
