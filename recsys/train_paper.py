"""Training of the paper's model in stages: the items under the linear state, then the state with them frozen.

Joint training from scratch is clearly worse: the state over-fits while the items are still noise.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core.config import to_dict
from core.training import Outcome, ShuffledBatches
from core.training import train as run_loop
from core.weights import Card, load, load_into
from recsys.baselines import Counted, count
from recsys.config import PaperRun
from recsys.data import UNKNOWN, Slates
from recsys.features import Steps, steps_of
from recsys.loss import slate_loss
from recsys.metrics import scored
from recsys.model import equip
from recsys.models.slate import SlateNetwork
from recsys.models.user import GATES

ITEMS = ("groupvec", "groupscale", "itemvec", "bias_noclick", "bias_kind", "bias_slot", "softmax_mult")
"""Sites that the first stage learns and the second keeps."""


class PaperBatches:
    """Rows of a batch -> (steps, seed of the draw)."""

    def __init__(self, slates: Slates, users: np.ndarray) -> None:
        self.steps = steps_of(slates, users)

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Steps, Tensor]:
        return self.steps.rows(rows), torch.randint(2**40, (), generator=generator)


def train_paper(
    config: PaperRun,
    slates: Slates,
    out: str | Path,
    *,
    users: np.ndarray | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train the paper's model on these users (all when left out) into the run folder `out`."""
    users = np.arange(len(slates)) if users is None else users
    order = np.random.default_rng(config.seed).permutation(users)
    kept, learned = np.sort(order[: config.validation]), np.sort(order[config.validation :])
    out = Path(out)
    staged = config.staged and config.model.user not in ("linear", "markov")
    counts = Counted(count(slates, users))
    first = replace(config, model=replace(config.model, user="linear")) if staged else config
    model = build(first, slates, counts)
    folder = out / "items" if staged else out
    outcome = run(first, model, slates, learned, kept, folder, resume=resume and folder.exists(), quiet=quiet)
    if not staged:
        return outcome
    second = replace(config, loop=replace(config.loop, epochs=config.state_epochs))
    network = build(second, slates, counts)
    tensors, _ = load(outcome.weights)
    own = network.state_dict()
    known = {name: tensor for name, tensor in tensors.items() if name in own}
    load_into(network, {**own, **known})
    for name, parameter in network.posterior.named_parameters():
        parameter.requires_grad_(name.split(".")[1] not in ITEMS)
    return run(second, network, slates, learned, kept, out, resume=resume, quiet=quiet)


def build(config: PaperRun, slates: Slates, counts: Counted) -> SlateNetwork:
    """A network at its start: small vectors, the spread of prior draws elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        group = torch.from_numpy(slates.catalogue.group)
        model = SlateNetwork(config.model, group, slates.slots)
        with torch.no_grad():
            for name, mean in model.posterior.mean.items():
                items = name in ("groupvec", "groupscale", "itemvec")
                mean.copy_(torch.randn(mean.shape) * (0.1 if items else 0.3))
                model.posterior.log_scale[name].fill_(-4.6 if items else -3.0)
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
    slates: Slates,
    learned: np.ndarray,
    kept: np.ndarray,
    out: Path,
    *,
    resume: bool,
    quiet: bool,
) -> Outcome:
    """One stage."""
    held = steps_of(slates, kept)
    held = replace(held, counted=scored(held))
    users = len(learned)

    def step(model: nn.Module, batch: tuple[Steps, Tensor]) -> dict[str, Tensor]:
        assert isinstance(model, SlateNetwork)
        steps, seed = batch
        generator = torch.Generator().manual_seed(int(seed))
        draw = model.posterior.draw(generator)
        click = steps.click * steps.used
        click = torch.where(steps.used & ~steps.counted, UNKNOWN, click)
        mean, scale = model.start(click, steps.used)
        h0 = mean + scale * torch.randn(mean.shape, generator=generator)
        terms = model.terms(draw, h0, steps, click, steps.used, steps.counted, users)
        total = steps.counted.sum() * users / len(click)
        # per counted step, at the likelihood's temperature, so that rates mean the same for every log
        scale_of = config.model.likelihood_temperature / total
        return {"loss": -terms.elbo * scale_of, "choice": -terms.click * scale_of}

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, SlateNetwork)
        with torch.no_grad():
            return {"loss": float(slate_loss(model.judge(held), held))}

    return run_loop(
        model,
        step,
        ShuffledBatches(users, min(config.batch, users), PaperBatches(slates, learned), config.seed),
        config.loop,
        out,
        validate=validate if len(kept) else None,
        settings=to_dict(config),
        seed=config.seed,
        card=describe(config, slates),
        resume=resume,
        quiet=quiet,
    )


def describe(config: PaperRun, slates: Slates) -> Card:
    """What the weights are, in words."""
    names: dict[str, Any] = {} if slates.catalogue.names is None else {"names": list(slates.catalogue.names)}
    return Card(
        task="recsys",
        unit=config.model.user,
        data=f"{len(slates)} users of {Path(slates.source).name or 'the simulator'}",
        terms="generated: ours",
        extra={"kind": "slate", "slots": slates.slots, **names},
    )
