"""A posterior that goes on: yesterday's is today's prior, for the items of a new log alone.

    prior of a refresh  ~  q_before^f N(0, 1)^(1 - f),      f in .99 .. 1: the rest is forgotten
    ELBO = log p(clicks of the new log) - KL(q || that prior),    over the rows that the log has

The state network and the groups stay (groups learn, too, on request, pulled back to where they were). New
items begin with their group's prior, retired ones leave the table. Counts of the log are forgotten alike.
Of a pair both tables go on, each by its own likelihood.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, DataError
from core.weights import Card, save
from recsys.baselines import count
from recsys.drift import drift
from recsys.evaluation import in_catalogue
from recsys.features import Steps, steps_of
from recsys.loss import slate_loss
from recsys.model import SlateModel
from recsys.models.filter import FilterNetwork
from recsys.models.pair import PairNetwork
from recsys.slates import FIRST, Catalogue, Slates
from recsys.trained import whole

ROWS = ("items.mean", "items.log_scale", "items.group", "clicked", "offered", "counts.shown",
        "counts.clicked", "catalogue.group")  # fmt: skip
"""Tensors with a row an item; a pair has those of both parts."""
KINDS = ("interest", "filter", "pair")
"""Weights with a table of items around groups."""
BATCH = 128
RATE = 0.05
PULL = 100.0
"""Of the groups' vectors towards where they were, in clicks."""


def refresh(
    weights: str | Path,
    slates: Slates | None,
    out: str | Path,
    *,
    forgetting: float = 0.995,
    groups: bool = False,
    passes: int = 4,
    add: Mapping[str, int] | None = None,
    retire: Sequence[Any] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Write refreshed weights; gives what changed and whether the world has drifted.

    Args:
        slates: the new log; None only adds and retires.
        forgetting: 1 forgets nothing.
        groups: let the groups' vectors learn, too.
        add: external id -> group of new items.
        retire: external ids that leave.

    Raises:
        ConfigError: forgetting outside 0..1, or weights whose items are no hierarchical table.
        DataError: an item to add is there already, or one to retire is not.
    """
    if not 0 < forgetting <= 1:
        raise ConfigError(f"forgetting is a share in 0..1, such as 0.995; got {forgetting}.")
    tensors, card = whole(weights)
    if card.extra.get("kind") not in KINDS:
        raise ConfigError(
            f"{weights}: only weights with a table of items around groups can be refreshed (train --model "
            "network, filter or pair)."
        )
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
    catalogue = Catalogue(tensors["catalogue.group"].numpy().astype(np.int64), names_of(card))
    tensors, catalogue = changed(tensors, catalogue, dict(add or {}), list(retire), str(weights))
    card = replace(
        card, extra={**card.extra, "names": list(catalogue.names or ())} if catalogue.names else card.extra
    )
    model = SlateModel.of(tensors, card, str(weights))
    report: dict[str, Any] = {
        "items": len(catalogue) - FIRST,
        "added": len(add or {}),
        "retired": len(retire),
    }
    if slates is not None:
        slates = in_catalogue(slates, catalogue)
        report["drift"] = drift(model, slates)
        report |= learn(model, slates, forgetting, groups, passes, seed)
    state = {name: tensor.detach() for name, tensor in model.network.state_dict().items()}
    save(out, state, replace(card, data=f"{card.data}; refreshed with {len(slates or ())} users"))
    return report


def names_of(card: Card) -> tuple[str, ...] | None:
    """External ids of a card."""
    names = card.extra.get("names")
    return tuple(names) if names else None


def changed(
    tensors: dict[str, Tensor], catalogue: Catalogue, add: dict[str, int], retire: list[Any], where: str
) -> tuple[dict[str, Tensor], Catalogue]:
    """Tables and catalogue with rows added and taken out."""
    if not add and not retire:
        return tensors, catalogue
    names = list(catalogue.names or map(str, range(len(catalogue))))
    gone = catalogue.numbers(retire)
    if (gone < FIRST).any():
        raise DataError(f"{where}: item {retire[int((gone < FIRST).argmax())]!r} is not in the catalogue.")
    taken = set(names)
    groups = next(len(one) for name, one in tensors.items() if part_free(name) == "items.centre")
    for name, group in add.items():
        if name in taken:
            raise DataError(f"{where}: item {name!r} is in the catalogue already.")
        if not FIRST <= group < groups:
            raise DataError(
                f"{where}: group {group} of item {name!r} is not one of these weights; groups are {FIRST} to "
                f"{groups - 1}."
            )
    kept = np.setdiff1d(np.arange(len(names)), gone)
    codes = torch.tensor(list(add.values()), dtype=torch.int64)
    after, group_of = dict(tensors), tensors["catalogue.group"]
    for name in tensors:
        if part_free(name) not in ROWS:
            continue
        old = tensors[name][torch.from_numpy(kept)]
        if name.endswith("group"):
            fresh = codes.to(old.dtype)
        else:  # the prior: e ~ N(0, 1), nothing shown and nothing clicked
            fresh = torch.zeros(len(add), *old.shape[1:], dtype=old.dtype)
        if part_free(name) == "offered":  # nobody has had the chance to offer them: the mean of their group
            same = group_of[kept][:, None] == codes
            fresh = (old[:, None] * same).sum(0) / same.sum(0).clamp_min(1)
        after[name] = torch.cat([old, fresh])
    group = np.concatenate([catalogue.group[kept], codes.numpy()])
    return after, Catalogue(group, (*(names[row] for row in kept), *add))


def part_free(name: str) -> str:
    """Name of a tensor within its network: that of a pair's part without the part."""
    return name.removeprefix("network.").removeprefix("filter.")


def with_items(model: SlateModel, add: Mapping[str, int]) -> SlateModel:
    """The model with new items of these groups, which have their groups' prior; others keep their numbers."""
    if not add:
        return model
    state = {name: tensor.detach() for name, tensor in model.network.state_dict().items()}
    tensors, catalogue = changed(state, model.catalogue, dict(add), [], model.name)
    card = replace(model.card, extra={**model.card.extra, "names": list(catalogue.names or ())})
    return SlateModel.of(tensors, card, model.name)


def learn(
    model: SlateModel, slates: Slates, forgetting: float, groups: bool, passes: int, seed: int
) -> dict[str, Any]:
    """Move the posterior of the rows that a log has, and count its clicks."""
    network: Any = model.network
    parts: tuple[Any, ...] = (
        (network.network, network.filter) if isinstance(model.network, PairNetwork) else (network,)
    )
    steps = steps_of(slates)
    seen = torch.zeros(len(model.catalogue), dtype=torch.bool)
    seen[steps.slate[steps.filled() & (steps.slate >= FIRST)]] = True
    rows = torch.nonzero(seen)[:, 0]
    score_before = held_loss(model, steps)
    taken = sum(moved(part, steps, rows, forgetting, groups, passes, seed) for part in parts)
    fresh = count(slates)
    for part in parts:
        part.clicked.copy_(forgetting * part.clicked.float() + fresh.clicked)
    counts = network.counts
    counts.clicked.copy_(forgetting * counts.clicked.float() + fresh.clicked)
    counts.shown.copy_(forgetting * counts.shown.float() + fresh.shown)
    return {
        "users": len(slates),
        "rows": len(rows),
        "steps": taken,
        "loglik_before": -score_before,
        "loglik_after": -held_loss(model, steps),
    }


def moved(
    network: Any, steps: Steps, rows: Tensor, forgetting: float, groups: bool, passes: int, seed: int
) -> int:
    """Move the posterior of these rows (R,) of a network's items, its groups on request; steps taken."""
    table = network.items
    before = {name: getattr(table, name).detach().clone() for name in ("mean", "log_scale", "centre")}
    precision = forgetting * (-2 * before["log_scale"][rows]).exp() + (1 - forgetting)
    centre = forgetting * (-2 * before["log_scale"][rows]).exp() * before["mean"][rows] / precision
    mean, log_scale = centre.clone().requires_grad_(), (-0.5 * precision.log()).requires_grad_()
    learned = [{"params": [mean, log_scale], "lr": RATE}]
    if groups:
        learned.append({"params": [table.centre.requires_grad_()], "lr": RATE / 10})
    optimizer = torch.optim.Adam(learned, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    total = float(steps.counted.sum())
    taken = 0
    for _ in range(passes):
        for part in torch.randperm(len(steps.slate), generator=generator).split(BATCH):
            batch = steps.rows(part)
            wide = before["mean"].index_put((rows,), mean)
            narrow = before["log_scale"].index_put((rows,), log_scale)
            noise = torch.randn(wide.shape, generator=generator)
            log_probs = drawn_log_probs(network, wide + narrow.exp() * noise, batch, generator)
            gap = (mean - centre).square() * precision
            ratio = (2 * log_scale).exp() * precision
            loss = slate_loss(log_probs, batch) + 0.5 * (gap + ratio - 1 - ratio.log()).sum() / total
            if groups:
                loss = loss + 0.5 * PULL * (table.centre - before["centre"]).square().sum() / total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken += 1
    with torch.no_grad():
        table.mean[rows], table.log_scale[rows] = mean, log_scale
        table.centre.requires_grad_(False)
    return taken


def drawn_log_probs(network: Any, e: Tensor, steps: Steps, generator: torch.Generator) -> Tensor:
    """log P(slot) (B, T, S) for a table drawn outside of the network."""
    tables = network.items.placed(e)
    if isinstance(network, FilterNetwork):
        from recsys.models.filter import Dice

        seed = int(torch.randint(2**40, (), generator=generator))
        return network.run(tables, steps, network.config.particles, Dice(seed))[1]
    h, traces, _ = network.encode(tables, steps)
    return network.slot_log_probs(tables, h[:, :-1], traces[:, :-1], steps)


def held_loss(model: SlateModel, steps: Steps) -> float:
    """Mean negative log likelihood of some users by the means."""
    with torch.no_grad():
        part = steps.rows(slice(0, 1000))
        return float(slate_loss(model.judge(part), part))
