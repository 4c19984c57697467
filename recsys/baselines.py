"""The simple methods that a slate model must beat, as counts that travel inside the weights.

uniform        every filled slot alike
no_click       the rate of no-click, then uniform
slot           how often each slot is clicked, by kind and length of the slate
item_ctr_slot  softmax of ln((clicks_i + 5 c) / (shown_i + 5)) + ln(slot factor); c is the mean rate, the
               factor clicks at the slot / sum of item rates there; the weight of no click by kind and
               length is scaled until as many are expected as were counted
popularity     the most clicked items
last_group     the most clicked items of the group of the last click; of all where there was none
random         the expectation of k items at random
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recsys.features import Steps, steps_of
from recsys.slates import FIRST, Slates

PRIOR = 5.0
"""Impressions at the mean rate that every item is given beforehand."""
ROUNDS = 60
"""Halvings in the search for the weight of no click."""


@dataclass(frozen=True)
class Counts:
    """What a log says without a model."""

    shown: Tensor
    """(I,) impressions."""
    clicked: Tensor
    """(I,)"""
    slot: Tensor
    """(S,) factor of each slot; slot 0 unused."""
    nothing: Tensor
    """(3, S + 1) weight of no click by kind and length, in `item_ctr_slot`."""
    table: Tensor
    """(3, S + 1, S) clicks by kind, length and slot; slot 0 is no click."""

    def rate(self) -> Tensor:
        """(I,) smoothed click rate of each item."""
        mean = self.clicked.sum() / self.shown.sum().clamp_min(1)
        return (self.clicked + PRIOR * mean) / (self.shown + PRIOR)


class Counted(nn.Module):
    """Counts as buffers, so that they travel inside the weights of a network."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        for name in Counts.__dataclass_fields__:
            self.register_buffer(name, getattr(counts, name))

    @property
    def values(self) -> Counts:
        """The counts."""
        return Counts(**{name: getattr(self, name).float() for name in Counts.__dataclass_fields__})

    @staticmethod
    def empty(items: int, slots: int) -> "Counted":
        """Of the right shapes, to be filled from a file."""
        cells = (3, slots + 1)
        shapes = ((items,), (items,), (slots,), cells, (*cells, slots))
        return Counted(Counts(*(torch.zeros(shape) for shape in shapes)))


def count(slates: Slates, users: np.ndarray | None = None, piece: int = 4000) -> Counts:
    """Count a log, or some of its users."""
    users = np.arange(len(slates)) if users is None else users
    items, slots = len(slates.catalogue), slates.slots
    shown, clicked = torch.zeros(items), torch.zeros(items)
    table = torch.zeros(3, slots + 1, slots)
    pieces = [steps_of(slates, users[start : start + piece]) for start in range(0, len(users), piece)]
    for steps in pieces:
        kept = steps.counted
        filled = steps.filled() & kept[..., None] & (steps.slate >= FIRST)
        shown += torch.bincount(steps.slate[filled], minlength=items)[:items].float()
        click = steps.click[kept]
        clicked += torch.bincount(click[click >= FIRST], minlength=items)[:items].float()
        place = (steps.kind[kept] * (slots + 1) + steps.lengths[kept]) * slots + steps.click_idx[kept]
        table += torch.bincount(place, minlength=table.numel()).view(table.shape).float()
    counts = Counts(shown, clicked, torch.ones(slots), torch.ones(3, slots + 1), table)
    rate, expected = counts.rate(), torch.zeros(slots)
    for steps in pieces:
        filled = steps.filled() & steps.counted[..., None] & (steps.slate >= FIRST)
        expected += (rate[steps.slate] * filled).sum((0, 1))
    slot = table.sum((0, 1)) / expected.clamp_min(1e-9)
    slot[0] = 1.0
    counts = Counts(shown, clicked, slot.clamp_min(1e-6), counts.nothing, table)
    return Counts(shown, clicked, counts.slot, fitted_nothing(counts, pieces), table)


def offers(slates: Slates, users: np.ndarray, piece: int = 4000) -> Tensor:
    """(I,) how often each item was put on a recommendation slate, in steps that count."""
    items, total = len(slates.catalogue), torch.zeros(len(slates.catalogue))
    for start in range(0, len(users), piece):
        steps = steps_of(slates, users[start : start + piece])
        shown = steps.offered & steps.counted[..., None]
        total += torch.bincount(steps.slate[shown], minlength=items)[:items].float()
    return total


def telling(counts: Tensor, group: Tensor) -> float:
    """Share of the variance of counts (I,) within their groups that is more than chance: 0 where items were
    put on slates at random, near 1 where whoever did it knew them.
    """
    own, seen = group[FIRST:], counts[FIRST:].double()
    sizes = torch.bincount(own).double()
    mean = (torch.bincount(own, seen) / sizes.clamp_min(1))[own]
    free = len(own) - int((sizes > 0).sum())
    spread = float(((seen - mean).square() / mean.clamp_min(1e-9)).sum()) / max(free, 1)
    return max(0.0, 1 - 1 / spread) if spread > 0 else 0.0


def fitted_nothing(counts: Counts, pieces: list[Steps]) -> Tensor:
    """The weight of no click by kind and length with which as many are expected as were counted."""
    masses, cells, empties = [], [], []
    width = counts.nothing.shape[1]
    for steps in pieces:
        kept = steps.counted
        masses.append(item_weights(counts, steps).sum(-1)[kept])
        cells.append((steps.kind * width + steps.lengths)[kept])
        empties.append((steps.click_idx == 0)[kept])
    mass, cell, empty = torch.cat(masses).double(), torch.cat(cells), torch.cat(empties).double()
    size = counts.nothing.numel()
    wanted = torch.bincount(cell, empty, minlength=size)
    low, high = (
        torch.full((size,), -20.0, dtype=torch.float64),
        torch.full((size,), 10.0, dtype=torch.float64),
    )
    for _ in range(ROUNDS):  # the expectation rises with the weight
        middle = (low + high) / 2
        weight = middle.exp()[cell]
        expected = torch.bincount(cell, weight / (weight + mass), minlength=size)
        above = expected > wanted
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    return ((low + high) / 2).exp().float().view(counts.nothing.shape)


def item_weights(counts: Counts, steps: Steps) -> Tensor:
    """Rate x slot factor of each filled slot, (B, T, S)."""
    width = steps.slate.shape[-1]
    slot = counts.slot
    if width > len(slot):
        slot = torch.cat([slot, slot[-1:].expand(width - len(slot))])
    filled = steps.filled() & (steps.slate >= FIRST)
    return counts.rate()[steps.slate] * slot[:width] * filled


def slot_log_probs(name: str, counts: Counts, steps: Steps) -> Tensor:
    """log P(slot) (B, T, S) of a baseline by name."""
    filled = steps.filled()
    width = steps.slate.shape[-1]
    if name == "uniform":
        weight = filled.float()
    elif name == "no_click":
        total = counts.table.sum((0, 1))
        share = total[0] / total.sum().clamp_min(1)
        others = (steps.lengths - 1).clamp_min(1)[..., None]
        weight = torch.where(torch.arange(width) == 0, share, (1 - share) / others) * filled
    elif name == "slot":
        table = counts.table + 1
        if width > table.shape[2]:
            table = torch.nn.functional.pad(table, (0, width - table.shape[2]), value=1.0)
        length = steps.lengths.clamp_max(table.shape[1] - 1)
        weight = table[steps.kind, length][..., :width] * filled
    elif name == "item_ctr_slot":
        weight = item_weights(counts, steps)
        length = steps.lengths.clamp_max(counts.nothing.shape[1] - 1)
        weight = torch.cat([counts.nothing[steps.kind, length][..., None], weight[..., 1:]], -1)
    else:
        raise ValueError(f"no baseline {name!r}")
    return (weight / weight.sum(-1, keepdim=True).clamp_min(1e-30)).clamp_min(1e-30).log()


LIKELIHOODS = ("uniform", "no_click", "slot", "item_ctr_slot")


def popular(counts: Counts, k: int) -> Tensor:
    """The k most clicked items; ties by lower number."""
    order = torch.argsort(-counts.clicked[FIRST:], stable=True)
    return order[:k] + FIRST


def last_group(counts: Counts, group: Tensor, history: Steps, k: int) -> list[list[int]]:
    """The k most clicked items of the group of each user's last click; of all items where there is none."""
    everyone = popular(counts, k).tolist()
    order = torch.argsort(-counts.clicked, stable=True)
    order = order[order >= FIRST]
    lists = {int(g): order[group[order] == g][:k].tolist() for g in group[FIRST:].unique()}
    answers = []
    for click in history.click * (history.click >= FIRST) * history.used:
        seen = click[click >= FIRST]
        answers.append(lists.get(int(group[seen[-1]]), everyone) if len(seen) else everyone)
    return answers
