"""Training of the filter through its own likelihood, from the items of an interest network."""

from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core.config import to_dict
from core.errors import ConfigError
from core.training import Outcome, ShuffledBatches
from core.training import train as run_loop
from core.weights import Card, find, load
from recsys.baselines import Counted, count
from recsys.config import FilterRun
from recsys.data import Slates
from recsys.features import Steps, steps_of
from recsys.loss import slate_loss
from recsys.model import equip
from recsys.models.filter import FilterNetwork

TAKEN = ("items.", "nothing", "slot", "clicked")
"""What the filter takes over from the network."""


class FilterBatches:
    """Rows of a batch -> (steps, seed of the particles, noise of the item table)."""

    def __init__(self, slates: Slates, users: np.ndarray, noise: tuple[int, ...]) -> None:
        self.steps, self.noise = steps_of(slates, users), noise

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor, Tensor]:
        seed = torch.randint(2**40, (), generator=generator)
        return self.steps.rows(rows), seed, torch.randn(self.noise, generator=generator)


def train_filter(
    config: FilterRun,
    slates: Slates,
    out: str | Path,
    start: str | Path,
    *,
    users: np.ndarray | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train the filter on these users into `out`, from the weights of an interest network."""
    users = np.arange(len(slates)) if users is None else users
    order = np.random.default_rng(config.seed).permutation(users)
    kept, learned = np.sort(order[: config.validation]), np.sort(order[config.validation :])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = FilterNetwork(config.model, torch.from_numpy(slates.catalogue.group), slates.slots)
    counts = count(slates, users)
    equip(model, slates.catalogue, Counted(counts))
    take_over(model, start)
    with torch.no_grad():
        shown = torch.zeros_like(model.popular).index_add(0, model.items.group, counts.shown)
        model.popular.copy_((shown + 1).log() - (shown + 1).log().mean())
    make = FilterBatches(slates, learned, tuple(model.items.mean.shape))
    total = float(make.steps.counted.sum())
    held = steps_of(slates, kept)

    def step(model: nn.Module, batch: tuple[Steps, Tensor, Tensor]) -> dict[str, Tensor]:
        steps, seed, noise = batch
        slots, evidence, divergence = model(steps, seed, noise)
        choice = slate_loss(slots, steps)
        search = -evidence.sum() / steps.counted.sum().clamp_min(1)
        loss = choice + search + config.kl * divergence / total
        return {"loss": loss, "choice": choice, "search": search, "kl": divergence / total}

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, FilterNetwork)
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
        card=describe(slates),
        resume=resume,
        quiet=quiet,
    )


def take_over(model: FilterNetwork, start: str | Path) -> None:
    """Items, slots and no-click biases of an interest network.

    Raises:
        ConfigError: the network has other items or another width.
    """
    tensors, card = load(find(start))
    own = model.state_dict()
    for name in own:
        if name.startswith(TAKEN) and name in tensors:
            if own[name].shape != tensors[name].shape:
                raise ConfigError(
                    f"{start}: {name} is {tuple(tensors[name].shape)} there, {tuple(own[name].shape)} here; "
                    f"the filter needs the network's dims ({card.settings['model'].get('dims')})."
                )
            own[name] = tensors[name].to(own[name].dtype)
    model.load_state_dict(own)


def describe(slates: Slates) -> Card:
    """What the weights are, in words."""
    names = {} if slates.catalogue.names is None else {"names": list(slates.catalogue.names)}
    return Card(
        task="recsys",
        unit="filter",
        data=f"{len(slates)} users of {Path(slates.source).name or 'the simulator'}",
        terms="generated: ours",
        extra={"kind": "filter", "slots": slates.slots, **names},
    )
