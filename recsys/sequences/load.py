"""Next-item models from weights."""

from pathlib import Path

from core.config import replace as changed
from core.errors import WeightsError
from core.weights import Card, find, load, network_for
from recsys.config import NextConfig
from recsys.sequences.model import NextItem


def load_next(name: str | Path) -> tuple[NextItem, Card]:
    """A next-item model by file or run folder.

    Raises:
        WeightsError: weights of another task, or damaged.
    """
    tensors, card = load(find(name))
    if card.task != "recsys-next":
        raise WeightsError(f"{name}: weights for {card.task!r}, not for the next item.")
    names = card.extra.get("names")
    if not isinstance(names, list):
        raise WeightsError(f"{name}: its card names no items.")
    timed = bool(card.extra.get("timed"))
    model = network_for(
        name, tensors, lambda: NextItem(changed(NextConfig(), card.settings["model"]), len(names), timed)
    )
    return model.eval(), card
