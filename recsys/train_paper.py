"""Training of the paper's model in stages: the items under the linear state, then the state with them frozen.

Joint training from scratch is clearly worse: the state over-fits while the items are still noise. The stages
are networks of their own, each a whole run (`1-items`, `2-state`); a run goes on wherever it was killed.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core.config import to_dict
from core.training import Outcome
from core.training.run import WEIGHTS
from core.training.stages import open_folder, point, publish
from core.weights import load, load_into
from recsys.baselines import Counted, count
from recsys.config import PaperRun
from recsys.features import Steps
from recsys.metrics import scored
from recsys.models.slate import SlateNetwork
from recsys.models.user import GATES
from recsys.slates import UNKNOWN, Slates
from recsys.trained import equip
from recsys.training import Divided, describe, fit

ITEMS = ("groupvec", "groupscale", "itemvec", "bias_noclick", "bias_kind", "bias_slot", "softmax_mult")
"""Sites that the first stage learns and the second keeps."""


ITEMS_SHARE = 0.7
"""Of a budget of seconds, what the first stage gets."""
APART = 1.0
"""Spread of the groups' vectors at the start."""


class PaperBatches:
    """Rows of a batch -> (steps, seed of the draw)."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor]:
        return self.steps.rows(rows), torch.randint(2**40, (), generator=generator)


def train_paper(
    config: PaperRun,
    parts: Divided,
    out: str | Path,
    *,
    device: torch.device | None = None,
    resume: bool,
    quiet: bool,
) -> Outcome:
    """Train the paper's model on these users into the run folder `out`."""
    out, slates, began = Path(out), parts.slates, time.monotonic()
    staged = config.staged and config.model.user not in ("linear", "markov")
    counts = Counted(count(slates, parts.everybody))
    first = replace(config, model=replace(config.model, user="linear")) if staged else config
    budget = config.seconds
    if staged and budget is not None:
        first = replace(first, seconds=ITEMS_SHARE * budget)
    model = build(first, slates, counts)
    options = {"device": device, "quiet": quiet, "began": began}
    if not staged:
        return run(first, model, parts, out, resume=resume, **options)
    open_folder(out, to_dict(config), resume)
    items, state = out / "1-items", out / "2-state"
    point(out, items)
    outcome = run(first, model, parts, items, resume=items.is_dir(), **options)
    if outcome.stopped == "time":
        return at_the_top(out, [items], [outcome])
    rest = None if budget is None else (1 - ITEMS_SHARE) * budget
    second = replace(config, loop=replace(config.loop, epochs=config.state_epochs), seconds=rest)
    network = build(second, slates, counts)
    tensors, _ = load(outcome.weights)
    own = network.state_dict()
    known = {name: tensor for name, tensor in tensors.items() if name in own}
    load_into(network, {**own, **known})
    for name, parameter in network.posterior.named_parameters():
        parameter.requires_grad_(name.split(".")[1] not in ITEMS)
    point(out, state)
    last = run(second, network, parts, state, resume=state.is_dir(), **options)
    return at_the_top(out, [items, state], [outcome, last])


def at_the_top(out: Path, folders: list[Path], outcomes: list[Outcome]) -> Outcome:
    """Put what the last stage gave where a run of one stage has it."""
    last = outcomes[-1]
    text = f"stopped by the clock in stage {len(folders)} of 2, {folders[-1].name}"
    publish(folders, out, text if last.stopped == "time" else None)
    card = load(out / WEIGHTS)[1]
    return replace(last, weights=out / WEIGHTS, card=card, stages=tuple(outcomes))


def build(config: PaperRun, slates: Slates, counts: Counted) -> SlateNetwork:
    """A network at its start: groups apart, their items close around them, the rest near 0.

    Where all groups begin at one place the state, a mean of clicked items, tells nothing, and the items never
    find out who belongs together.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        group = torch.from_numpy(slates.catalogue.group)
        model = SlateNetwork(config.model, group, slates.slots)
        with torch.no_grad():
            for name, mean in model.posterior.mean.items():
                items = name in ("groupvec", "groupscale", "itemvec")
                mean.copy_(torch.randn(mean.shape) * (0.1 if items else 0.3))
                model.posterior.log_scale[name].fill_(-4.6 if items else -3.0)
            model.posterior.mean["groupvec"].mul_(APART / 0.1)
            model.posterior.mean["itemvec"].add_(model.posterior.mean["groupvec"][model.group])
            model.posterior.mean["groupscale"].fill_(0.3)
            model.posterior.mean["bias_noclick"].fill_(-1.0)
            if "gamma" in model.posterior.mean:
                model.posterior.mean["gamma"].fill_(0.8)  # a logit
            for name in GATES:
                if name in model.posterior.mean:
                    size = config.model.dims
                    model.posterior.mean[name].copy_(0.5 * torch.randn(size, size) / size**0.5)
            if "W_z" in model.posterior.mean:
                model.posterior.mean["W_z"].add_(torch.eye(config.model.dims))
    equip(model, slates.catalogue, counts)
    return model


def run(
    config: PaperRun,
    model: SlateNetwork,
    parts: Divided,
    out: Path,
    *,
    device: torch.device | None,
    resume: bool,
    quiet: bool,
    began: float,
) -> Outcome:
    """One stage."""
    held = parts.held
    held = replace(held, counted=scored(held))
    users = len(parts.learned)

    def step(model: nn.Module, batch: tuple[Steps, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
        assert isinstance(model, SlateNetwork)
        steps, seed = batch
        generator = torch.Generator().manual_seed(int(seed))
        draw = model.posterior.draw(generator)
        click = steps.click * steps.used
        click = torch.where(steps.used & ~steps.counted, UNKNOWN, click)
        mean, scale = model.start(click, steps.used)
        h0 = mean + scale * torch.randn(mean.shape, generator=generator).to(mean)
        terms = model.terms(draw, h0, steps, click, steps.used, steps.counted, users)
        total = steps.counted.sum() * users / len(click)
        # per counted step, at the likelihood's temperature, so that rates mean the same for every log
        scale_of = config.model.likelihood_temperature / total
        elbo = terms.click + weight * (terms.elbo - terms.click)
        return {"loss": -elbo * scale_of, "choice": -terms.click * scale_of}

    make = PaperBatches(parts.training)
    card = describe(parts.slates, config.model.user, "slate")
    options: dict[str, Any] = {"resume": resume, "quiet": quiet, "held": held, "device": device}
    return fit(config, model, step, make, parts, out, card, began=began, **options)
