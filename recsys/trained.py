"""What training leaves: a network with the catalogue and the counts it was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from core.config import replace as changed
from core.errors import ConfigError, WeightsError
from core.text import shown
from core.weights import Card, find, load, load_into, network_for
from recsys.baselines import Counted, Counts
from recsys.config import InterestConfig, PairConfig, PaperConfig
from recsys.features import Steps
from recsys.history import History, parse_history, steps_from
from recsys.models.interest import InterestNetwork
from recsys.models.slate import SlateNetwork
from recsys.slates import FIRST, Catalogue

SLOTS = 1000
"""Most items of a slate."""
DEFAULT, BEST, LINEAR = "recsys-gru", "recsys-pair", "recsys-linear"
"""Bundled weights: what serves (a shelf answers it), what says most, and the published linear model that
stands among the baselines."""


PARTS = "parts"
"""Where the card of a pair names the files of its network and its filter."""


@dataclass(frozen=True)
class Trained:
    """A trained slate network with its catalogue and counts."""

    network: Any
    """An InterestNetwork, a SlateNetwork, a FilterNetwork or a PairNetwork."""
    catalogue: Catalogue
    counts: Counts
    card: Card
    name: str = ""

    @classmethod
    def load(cls, name: str | Path = DEFAULT, mapped: bool = False) -> Self:
        """Bundled weights by name, a weights file or a run folder.

        Args:
            mapped: leave tensors of 32 bits in the file, for processes that share it.

        Raises:
            WeightsError: nothing by this name, damaged, or weights of another task.
        """
        tensors, card = whole(name, mapped)
        if card.task != "recsys" or "kind" not in card.extra:
            raise WeightsError(f"{name}: weights for {card.task!r}, not for slates.")
        return cls.of(tensors, card, Path(name).name, mapped)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], card: Card, name: str = "", mapped: bool = False) -> Self:
        """A model from tensors and their card; its own are the given ones where they are `mapped`.

        Raises:
            WeightsError: they do not fit each other.
        """
        kind, slots, names = card.extra["kind"], card.extra.get("slots"), card.extra.get("names")
        if not isinstance(slots, int) or not 1 <= slots <= SLOTS:
            raise WeightsError(f"{name}: {shown(slots, 40)} slots are no slate.")
        group = checked_groups(tensors, name)
        if names is not None and (not isinstance(names, list) or len(names) != len(group)):
            raise WeightsError(f"{name}: its names are not one for each of {len(group)} items.")
        catalogue = Catalogue(group, tuple(map(str, names)) if names else None)

        def make() -> nn.Module:
            network = network_of(kind, card.settings["model"], torch.from_numpy(group), slots)
            equip(network, catalogue, Counted.empty(len(catalogue), slots))
            return network

        narrow = any(one.is_floating_point() and one.dtype != torch.float32 for one in tensors.values())
        fill = taken if mapped and not narrow else load_into
        network = network_for(name, tensors, make, fill).eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return cls(network, catalogue, network.counts.values, card, name)  # pyright: ignore

    def state(self, history: Any = ()) -> Any:
        """Recurrent state of one user after a history, of fixed size; `update` advances it."""
        found = history if isinstance(history, History) else parse_history(list(history), self.catalogue)
        with torch.inference_mode():
            tables, state = tables_of(self.network), self.network.initial_state(1)
            for event in found.events:
                state = self.network.advance(tables, state, steps_from([History((event,))]))
        return state

    def update(self, state: Any, click: Any) -> Any:
        """State after one more click (an item id), or one more slate (a mapping, see `parse_history`)."""
        found = parse_history([click], self.catalogue)
        with torch.inference_mode():
            tables = tables_of(self.network)
            for event in found.events:
                state = self.network.advance(tables, state, steps_from([History((event,))]))
        return state

    def log_prob(self, history: Any) -> list[float]:
        """log P(what was clicked) of every slate of a history, each from the ones before."""
        found = parse_history(list(history), self.catalogue)
        steps = steps_from([found])
        with torch.inference_mode():
            chances = self.judge(steps)
        return chances.gather(-1, steps.click_idx[..., None])[0, :, 0].tolist()

    def judge(self, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S) of known steps, by posterior means."""
        return self.network.judge(steps)


def whole(name: str | Path, mapped: bool = False) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of weights; those of a pair may lie in two files beside it, which its card names.

    So the pair is bundled: its network and its filter are bundled, too.

    Raises:
        WeightsError: nothing by this name, damaged, or parts that are not beside it.
    """
    path = find(str(name))
    tensors, card = load(path, mapped)
    if PARTS not in card.extra:
        return tensors, card
    extra = dict(card.extra)
    return gathered(path, extra.pop(PARTS), mapped), replace(card, extra=extra)


def gathered(path: Path, parts: Any, mapped: bool = False) -> dict[str, Tensor]:
    """Tensors of a pair from the files of its network and its filter, which lie beside `path`.

    Raises:
        WeightsError: they are not named so, or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for part in ("network", "filter"):
        file = parts.get(part) if isinstance(parts, dict) else None
        if not isinstance(file, str) or Path(file).name != file:
            raise WeightsError(f"{path}: names no file beside it that holds its {part}.")
        for key, tensor in load(path.with_name(file), mapped)[0].items():
            shared = key.startswith(("counts.", "catalogue."))
            tensors.setdefault(key if shared else f"{part}.{key}", tensor)
    return tensors


def tables_of(network: Any) -> Any:
    """What `advance` of a network wants beside a state: its items by the means; None for the paper's."""
    if isinstance(network, SlateNetwork):
        return None
    return network.tables() if hasattr(network, "tables") else network.items.tables()


def taken(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let a network have these tensors themselves, without a copy."""
    network.load_state_dict(tensors, assign=True)


def checked_groups(tensors: Mapping[str, Tensor], name: str) -> np.ndarray:
    """The group of every item (I,) int64.

    Raises:
        WeightsError: there is no such table, or it numbers groups that have no item.
    """
    table = tensors.get("catalogue.group")
    if table is None or table.ndim != 1 or table.is_floating_point() or len(table) <= FIRST:
        raise WeightsError(f"{name}: no table of groups in these weights.")
    group = table.numpy().astype(np.int64)
    if group.min() < 0 or group.max() >= len(group):
        raise WeightsError(f"{name}: its groups are not numbered from 0 by the items they have.")
    return group


def network_of(kind: Any, settings: Mapping[str, Any], group: Tensor, slots: int) -> nn.Module:
    """The network of a kind without its weights.

    Raises:
        ConfigError: a kind that is not known, or settings that are not its own.
    """
    if kind == "interest":
        return InterestNetwork(changed(InterestConfig(), settings), group, slots)
    if kind == "slate":
        return SlateNetwork(changed(PaperConfig(), settings), group, slots)
    if kind == "pair":
        from recsys.models.pair import PairNetwork

        return PairNetwork(changed(PairConfig(), settings), group, slots)
    if kind == "filter":
        from recsys.config import FilterConfig
        from recsys.models.filter import FilterNetwork

        return FilterNetwork(changed(FilterConfig(), settings), group, slots)
    raise ConfigError(f"slate models of kind '{shown(kind, 40)}' are not known to this version.")


def equip(network: nn.Module, catalogue: Catalogue, counts: Counted) -> None:
    """Put what must travel with a network into it: the group table and the counts of its log."""
    network.counts = counts
    network.catalogue = GroupTable(catalogue)


class GroupTable(nn.Module):
    """The groups of a catalogue as a buffer."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.register_buffer("group", torch.from_numpy(catalogue.group.astype(np.int32)))
