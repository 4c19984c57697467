"""Doors that all pipelines share: weights, checkpoints, arrays, settings, indexes, states."""

import io
import json
import random
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from core import bundled, config, door, state, weights
from core.config import Count, Share, Size
from core.ctc import char_lm
from core.tables import read_index
from core.training.checkpoint import load_state
from core.training.options import LoopOptions
from core.training.start import Parent  # noqa: F401  (loads what a run loads)
from tests.fuzz import mutate
from tests.fuzz.reader import Reader


@dataclass(frozen=True)
class Model:
    """Settings of the small network below."""

    hidden: Size = 4
    layers: Count = 2
    dropout: Share = 0.1
    name: str = "small"


@dataclass(frozen=True)
class Run:
    """Settings of a run of it."""

    model: Model = field(default_factory=Model)
    loop: LoopOptions = field(default_factory=LoopOptions)
    seed: int = 0


def network(card: weights.Card) -> nn.Module:
    """The network of a card."""
    kept = config.replace(Run(), {name: card.settings.get(name, {}) for name in ("model",)}).model
    return nn.Sequential(*[nn.Linear(kept.hidden, kept.hidden) for _ in range(kept.layers)])


@lru_cache
def good() -> bytes:
    """A file of weights as `save` writes it."""
    settings = config.to_dict(Run())
    card = weights.Card("fuzz", "linear", "none", "none", settings, {"loss": 1.0}, "abc", {"factors": [1.0]})
    model = network(card)
    about = {"recurra": "1", "card": json.dumps(vars(card)), "tied": "{}"}
    return save(dict(model.state_dict()), about)


def make_weights(chance: random.Random) -> bytes:
    return mutate.safetensors(chance, good())


def read_weights(path: str) -> Any:
    loaded = weights.load_network(path, "fuzz", network)
    return [part.detach().numpy() for part in loaded.network.parameters()]


@lru_cache
def torch_bytes(kind: str) -> bytes:
    file = io.BytesIO()
    tensors = {"a.weight": torch.zeros(3, 4), "a.bias": torch.ones(3), "n": torch.tensor(5)}
    state = {"version": 2, "origin": "{}", "model": tensors, "position": {"step": 1}}
    torch.save(tensors if kind == "dict" else state, file, _use_new_zipfile_serialization=kind != "old")
    return file.getvalue()


ODD = (
    lambda: {"a": torch.zeros(1).expand(40_000, 40_000)},
    lambda: {5: torch.zeros(1)},
    lambda: {"a": torch.zeros(3, device="meta")},
    lambda: {"a": torch.full((3,), float("nan"))},
    lambda: {"a" * 300: torch.zeros(2)},
    lambda: {"a\x1b[2J": torch.zeros(0, 3)},
    lambda: [torch.zeros(1)],
    lambda: {"model": {"a": torch.zeros(2, dtype=torch.complex64)}},
    lambda: {f"t{i}": torch.zeros(0) for i in range(300)},
    lambda: 7,
)


def make_torch(chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        file = io.BytesIO()
        torch.save(chance.choice(ODD)(), file)
        return file.getvalue()
    kind = chance.choice(("dict", "state", "old"))
    data = torch_bytes(kind)
    return mutate.blocks(chance, data) if kind == "old" else mutate.members(chance, data)


def read_torch(path: str) -> Any:
    return [part.numpy() for part in weights.load_torch(path).values() if not part.is_complex()]


def make_arrays(chance: random.Random) -> bytes:
    array = np.arange(12.0).reshape(3, 4)
    if chance.random() < 0.3:
        return mutate.npy(chance, array)
    file = io.BytesIO()
    np.savez(file, a=array, max_velocity=np.array([3.0]), names=np.array(["a", "b"]))
    return mutate.members(chance, file.getvalue(), lambda chance, data: mutate.npy(chance, array))


def make_settings(chance: random.Random) -> bytes:
    return mutate.words(chance, config.to_toml(config.to_dict(Run())))


def read_settings(path: str) -> Any:
    text = Path(path).read_bytes().decode("utf-8", "replace")
    config.resolve(Run(), None, [line for line in text.splitlines() if "=" in line][:3])
    return config.to_dict(config.resolve(Run(), path))


def make_index(chance: random.Random) -> bytes:
    return mutate.table(
        chance, ("wav", "text", "split", "gain"), [(f"{i}.wav", "a b", "train", i) for i in range(6)]
    )


def read_table(path: str) -> Any:
    rows = read_index(path, ["wav", "text"], optional=["gain"])
    return [(row.path("wav").name, row.text("text"), row.number("gain", 1.0)) for row in rows]


ROW = {"name": "a", "file": "a.safetensors", "task": "t", "bytes": 10, "sha256": "00", "parameters": 3}


def make_list(chance: random.Random) -> bytes:
    return mutate.as_json(chance, mutate.tree(chance, {"models": [ROW, {**ROW, "name": "b"}]}))


@lru_cache
def kept_state() -> bytes:
    return state.to_bytes((torch.zeros(2, 3), (torch.ones(2, 4), torch.arange(6).reshape(2, 3))))


def read_state(path: str) -> Any:
    found = state.from_bytes(
        Path(path).read_bytes(), like=(torch.zeros(1, 3), (torch.ones(1, 4), torch.zeros(1, 3).long()))
    )
    return [part[0].shape for part in state.tensors(found)]


@lru_cache
def arpa() -> str:
    return (
        "\\data\\\nngram 1=4\nngram 2=3\n\n\\1-grams:\n-1.0\t<unk>\t-0.3\n-0.8\t<s>\t-0.3\n-0.7\ta\t-0.2\n"
        "-0.9\t</s>\n\n\\2-grams:\n-0.3\t<s> a\n-0.5\ta a\n-0.4\ta </s>\n\n\\end\\\n"
    )


def make_model(chance: random.Random) -> bytes:
    return mutate.words(chance, arpa(), chance.choice((0, 1, 1, 2)))


def read_model(path: str) -> Any:
    model = char_lm.load_char_lm(path)
    return [float(score) for score in model.scores.values()]


READERS = [
    Reader("core-weights", make_weights, read_weights, ".safetensors", 2.0),
    Reader("core-torch", make_torch, read_torch, ".pth", 1.5),
    Reader("core-checkpoint", make_torch, lambda path: bool(load_state(Path(path))), ".pt", 1.5),
    Reader("core-arrays", make_arrays, lambda path: len(door.arrays(Path(path), path)), ".npz", 1.0),
    Reader("core-settings", make_settings, read_settings, ".toml", 1.5),
    Reader("core-index", make_index, read_table, ".csv", 0.7),
    Reader("core-list", make_list, lambda path: len(bundled.read_index(Path(path))), ".json", 0.5),
    Reader("core-state", lambda chance: mutate.blocks(chance, kept_state()), read_state, ".state", 0.5),
    Reader("core-letters", make_model, read_model, ".arpa", 0.7),
]
