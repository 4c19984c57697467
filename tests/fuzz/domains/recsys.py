"""Logs of slates, histories, logs of policies, sequences, group tables."""

import io
import random
from typing import Any

import numpy as np

from core import config
from recsys.config import SlateConfig
from recsys.data import read_slates
from recsys.history import read_histories
from recsys.ope_actions import read_log
from recsys.sequences.data import read_sequences
from recsys.slates import Catalogue
from recsys.tables import read_catalogue
from tests.fuzz import mutate
from tests.fuzz.reader import Reader

CATALOGUE = Catalogue(np.arange(20) % 4)
SLATE = np.array([[[1, 3, 4], [1, 5, 6]], [[1, 7, 8], [0, 0, 0]]])


def make_npz(chance: random.Random) -> bytes:
    file = io.BytesIO()
    np.savez(
        file,
        slate=SLATE,
        click=SLATE[..., 1],
        click_idx=np.array([[1, 1], [1, 0]]),
        slate_lengths=np.array([[3, 3], [3, 0]]),
        interaction_type=np.zeros((2, 2), int),
    )
    wrong = SLATE, SLATE[..., 1], np.zeros((2, 2)), np.full((2, 2), 2**62), np.array(["a"])
    return mutate.members(
        chance, file.getvalue(), lambda chance, data: mutate.npy(chance, chance.choice(wrong))
    )


def make_slots(chance: random.Random) -> bytes:
    rows = [(u, t, s + 1, 10 + s + t, int(s == t)) for u in range(2) for t in range(2) for s in range(3)]
    return mutate.table(chance, ("user", "time", "slot", "item", "click"), rows)


def make_history(chance: random.Random) -> bytes:
    slate = {"slate": [3, 4, 5], "click": 4, "kind": "rec"}
    kinds: tuple[Any, ...] = (
        [3, 4, 5],
        {"user": "a", "history": [3, slate]},
        [{"user": "a", "history": [slate]}] * 2,
    )
    return mutate.as_json(chance, mutate.tree(chance, chance.choice(kinds), chance.choice((0, 1, 1, 2))))


def make_log(chance: random.Random) -> bytes:
    rows = [(u, i, 3 + i, i % 2, 0.25) for u in range(2) for i in range(3)]
    return mutate.table(chance, ("user_id", "position", "item_id", "click", "propensity_score"), rows)


def make_sequence(chance: random.Random) -> bytes:
    rows = [(u, 10 * u + i, i) for u in range(3) for i in range(4)]
    return mutate.table(chance, ("user", "item", "time"), rows)


READERS = [
    Reader("recsys-arrays", make_npz, lambda path: len(read_slates(path)), ".npz", 1.0),
    Reader("recsys-slots", make_slots, lambda path: len(read_slates(path)), ".csv", 1.5),
    Reader("recsys-history", make_history, lambda path: len(read_histories(path, CATALOGUE)), ".json", 1.0),
    Reader("recsys-log", make_log, lambda path: len(read_log(path).click), ".csv", 1.5),
    Reader("recsys-sequences", make_sequence, lambda path: len(read_sequences(path)), ".csv", 1.5),
    Reader(
        "recsys-groups",
        lambda chance: mutate.table(chance, ("item", "group"), [(i, i % 3) for i in range(3, 12)]),
        lambda path: len(read_catalogue(path)),
        ".csv",
        0.8,
    ),
    Reader(
        "recsys-settings",
        lambda chance: mutate.words(chance, config.to_toml(config.to_dict(SlateConfig()))),
        lambda path: config.to_dict(config.resolve(SlateConfig(), path)),
        ".toml",
        0.8,
    ),
]
