"""Training of the pair: the network, then the filter from its items, and both in one file of weights."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from core.config import to_dict
from core.errors import ConfigError, WeightsError
from core.training import Outcome
from core.training.card import write_card
from core.training.run import WEIGHTS
from core.training.stages import open_folder, point, publish
from core.weights import ABOUT, Card, save, write_index
from recsys.config import PairConfig, PairRun
from recsys.features import Steps
from recsys.loss import slate_loss
from recsys.models.pair import PairNetwork
from recsys.trained import PARTS, Trained, equip, gathered, whole


def train_pair(
    config: PairRun,
    train: Callable[..., Outcome],
    held: Steps,
    out: str | Path,
    *,
    resume: bool,
    device: torch.device | None = None,
) -> Outcome:
    """Both stages into the run folder `out` (`1-network`, `2-filter`), the pair at its top.

    Args:
        train: (folder, settings, resume and more) -> one stage.
        held: what the pair is scored on.
    """
    out = Path(out)
    open_folder(out, to_dict(config), resume)
    network, particles = out / "1-network", out / "2-filter"
    point(out, network)
    first = train(network, config.network, resume=network.is_dir(), device=device)
    if first.stopped == "time":
        publish([network], out, "stopped by the clock in stage 1 of 2, 1-network")
        return replace(first, weights=out / WEIGHTS, stages=(first,))
    point(out, particles)
    second = train(particles, config.filter, start=network, resume=particles.is_dir())
    stages = (first, second)
    if second.stopped == "time":
        publish([network, particles], out, "stopped by the clock in stage 2 of 2, 2-filter")
        return replace(second, weights=out / WEIGHTS, stages=stages)
    publish([network, particles], out, None)
    card = joined(network, particles, out / WEIGHTS, held, trust=config.trust, lean=config.lean)
    write_card(out / "card.md", card, {"Stages": "1-network, 2-filter"})
    return replace(second, weights=out / WEIGHTS, card=card, score=card.score["loss"], stages=stages)


def joined(
    network: str | Path, particles: str | Path, out: str | Path, held: Steps | None = None, **weights: float
) -> Card:
    """Put a network and a filter of one catalogue into one file of weights; gives its card.

    Args:
        held: steps that it is scored on.
        weights: `trust` and `lean` of `PairConfig`.

    Raises:
        ConfigError: weights of other kinds, or of another catalogue.
    """
    first, second = Trained.load(network), Trained.load(particles)
    kinds = first.card.extra["kind"], second.card.extra["kind"]
    if kinds != ("interest", "filter"):
        raise ConfigError(f"a pair is a network and a filter, got {' and '.join(kinds)}.")
    if first.catalogue.names != second.catalogue.names or len(first.catalogue) != len(second.catalogue):
        raise ConfigError(f"{network} and {particles} know different items.")
    config = PairConfig(first.network.config, second.network.config, **weights)
    pair = PairNetwork(config, torch.from_numpy(first.catalogue.group), first.network.slots)
    for part, trained in ((pair.network, first.network), (pair.filter, second.network)):
        whole = trained.state_dict()  # counts and catalogue travel with it, too
        part.load_state_dict({name: whole[name] for name in part.state_dict()})
    equip(pair, first.catalogue, first.network.counts)
    score = {}
    if held is not None:
        with torch.no_grad():
            score["loss"] = float(slate_loss(pair.eval().judge(held), held))
    card = Card(
        "recsys",
        "pair",
        second.card.data,
        second.card.terms,
        {**first.card.settings, "model": asdict(config)},
        score,
        second.card.commit,
        {**first.card.extra, "kind": "pair"},
    )
    save(out, pair, card)
    return card


def link(run: str | Path, folder: str | Path, **parts: str) -> Path:
    """Bundle the pair of a run in a `weights/` folder without its numbers: its parts are bundled there.

    Args:
        parts: the file in `folder` of `network` and of `filter`.

    Raises:
        WeightsError: the files there are not the parts of this pair.
    """
    tensors, card = whole(run)
    target = Path(folder) / "recsys-pair.safetensors"
    found = gathered(target, parts)
    if found.keys() != tensors.keys() or not all(
        torch.equal(found[name], one.to(found[name].dtype)) for name, one in tensors.items()
    ):
        raise WeightsError(f"{run}: its parts are not {' and '.join(parts.values())} in {folder}.")
    shares = torch.tensor([card.settings["model"][name] for name in ("trust", "lean")])
    about = {**card.extra.get(ABOUT, {}), PARTS: " + ".join(parts.values())}
    save(target, {"shares": shares}, replace(card, extra={**card.extra, PARTS: parts, ABOUT: about}))
    write_index(folder)
    return target
