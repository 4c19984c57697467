"""Training of the filter through its own likelihood, from the items of an interest network."""

from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from core.errors import ConfigError
from core.training import Outcome
from core.weights import find, load
from recsys.baselines import Counted, count
from recsys.config import FilterRun
from recsys.features import Steps
from recsys.loss import slate_loss
from recsys.models.filter import FilterNetwork
from recsys.trained import equip
from recsys.training import Divided, describe, fit, shown_by_group

TAKEN = ("items.", "nothing", "slot", "clicked", "offered", "favour")
"""What the filter takes over from the network."""


class FilterBatches:
    """Rows of a batch -> (steps, seed of the particles, noise of the item table)."""

    def __init__(self, steps: Steps, noise: tuple[int, ...]) -> None:
        self.steps, self.noise = steps, noise

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor, Tensor]:
        seed = torch.randint(2**40, (), generator=generator)
        return self.steps.rows(rows), seed, torch.randn(self.noise, generator=generator)


def train_filter(
    config: FilterRun, parts: Divided, out: str | Path, start: str | Path, *, resume: bool, quiet: bool
) -> Outcome:
    """Train the filter on these users into `out`, from the weights of an interest network."""
    slates = parts.slates
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = FilterNetwork(config.model, torch.from_numpy(slates.catalogue.group), slates.slots)
    counts = count(slates, parts.everybody)
    equip(model, slates.catalogue, Counted(counts))
    take_over(model, start)
    with torch.no_grad():
        shown = shown_by_group(counts.shown, model.items.group, len(model.popular))
        model.popular.copy_(shown - shown.mean())
    steps = parts.training
    total = float(steps.counted.sum())
    kl = config.kl / total

    def step(model: nn.Module, batch: tuple[Steps, Tensor, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
        steps, seed, noise = batch
        slots, evidence, divergence = model(steps, seed, noise)
        choice = slate_loss(slots, steps)
        search = -evidence.sum() / steps.counted.sum().clamp_min(1)
        loss = choice + search + weight * kl * divergence
        return {"loss": loss, "choice": choice, "search": search, "kl": divergence / total}

    make = FilterBatches(steps, model.items.noise_shape)
    card = describe(slates, "filter", "filter")
    return fit(config, model, step, make, parts, out, card, resume=resume, quiet=quiet)


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
