"""A small market and models of it, made once."""

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.weights import Card, save
from recsys.baselines import Counted, count, offers
from recsys.config import FilterConfig, InterestConfig, PairConfig, PaperConfig
from recsys.model import SlateModel
from recsys.models.filter import FilterNetwork
from recsys.models.interest import InterestNetwork
from recsys.models.pair import PairNetwork
from recsys.models.slate import SlateNetwork
from recsys.simulator import SimulatedLog, World, simulate_log
from recsys.trained import equip

WORLD = World(items=240, groups=5, dims=4, slots=9, length=6.0)

OURS = InterestConfig(hidden=16, dims=4, width=16)
PARTICLES = FilterConfig(dims=4, particles=8, judges=12)


@lru_cache
def log(users: int = 60, seed: int = 0) -> SimulatedLog:
    return simulate_log(WORLD, users, 12, seed)


@lru_cache
def model(kind: str = "interest") -> SlateModel:
    """Untrained, but with the counts of the log."""
    slates = log().slates
    group = torch.from_numpy(slates.catalogue.group)
    torch.manual_seed(1)
    network: torch.nn.Module
    if kind == "interest":
        network = InterestNetwork(OURS, group, slates.slots)
    elif kind == "filter":
        network = FilterNetwork(PARTICLES, group, slates.slots)
    elif kind == "pair":
        network = PairNetwork(PairConfig(OURS, PARTICLES), group, slates.slots)
    else:
        network = SlateNetwork(PaperConfig(user=kind, dims=4), group, slates.slots)
    counts = count(slates)
    equip(network, slates.catalogue, Counted(counts))
    part: Any
    for part in network.modules():
        if hasattr(part, "offered"):
            part.clicked.copy_(counts.clicked)
            part.offered.copy_(offers(slates, np.arange(len(slates))))
    network.eval().requires_grad_(False)
    card = Card(task="recsys", unit=kind, data="generated", terms="ours", extra={"kind": kind})
    return SlateModel(network, slates.catalogue, counts, card, kind)


def kept(path: Path, kind: str = "interest") -> Path:
    """The model of a kind on disk."""
    found = model(kind)
    card = replace(
        found.card,
        settings={"model": asdict(found.network.config)},
        extra={"kind": kind, "slots": found.network.slots},
    )
    save(path, found.network.state_dict(), card)
    return path


def written(folder: Path) -> Path:
    """The log on disk."""
    from recsys.simulator import write_log

    write_log(log(), folder)
    return folder
