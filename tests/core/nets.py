"""A network of two layers with its card, and a file of both."""

from pathlib import Path
from typing import Any

from torch import nn

from core.weights import Card, save

CARD = Card(
    task="trajectory",
    unit="gru",
    data="generated flights",
    terms="Apache-2.0",
    settings={"model": {"hidden": 4}, "horizons": [0.5, 1.0]},
    score={"fde": 0.25},
    commit="abc",
    extra={"radius": {"1.0": 0.3}},
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)
        self.head = nn.Linear(4, 2)


def saved(tmp_path: Path, source: Any = None, card: Card = CARD) -> Path:
    path = tmp_path / "net.safetensors"
    save(path, Net() if source is None else source, card)
    return path
