"""What is known of a user -> steps: a list of clicks, or of slates with what was clicked on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from core.errors import DataError
from recsys.features import Steps
from recsys.slates import FIRST, KINDS, NOTHING, SEARCH, UNKNOWN, Catalogue

LONGEST = 20
"""Last steps of a history that are read; the state hardly remembers more."""
LARGEST = 20 << 20
"""Bytes of a file of histories."""


@dataclass(frozen=True)
class Event:
    """One step of a user: the items shown, the slot clicked (0: none), the kind of slate."""

    shown: tuple[int, ...]
    slot: int
    kind: int


@dataclass(frozen=True)
class History:
    """Events of one user, oldest first, and what was not understood."""

    events: tuple[Event, ...]
    user: str = ""
    unknown: int = 0
    """Ids that are not in the catalogue; they are skipped."""

    @property
    def clicked(self) -> list[int]:
        """Items clicked, oldest first."""
        return [event.shown[event.slot - 1] for event in self.events if event.slot]


def parse_history(value: Any, catalogue: Catalogue, user: str = "", where: str = "the history") -> History:
    """A list of item ids, or of `{"slate": [ids], "click": id or null, "kind": "search" or "rec"}`.

    Raises:
        DataError: something else, a click that is not in its slate, an item twice in a slate.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(
            f"{where}: expected a list of item ids or of slates, or users as "
            f'{{"user": .., "history": [..]}}; got {type(value).__name__}.'
        )
    events, unknown = [], 0
    for number, one in enumerate(value):
        if isinstance(one, Mapping):
            event, missed = parse_slate(one, catalogue, f"{where}, step {number}")
        else:
            item = number_of(one, catalogue, f"{where}, step {number}")
            event, missed = (Event((item,), 1, SEARCH), 0) if item >= FIRST else (None, 1)
        unknown += missed
        if event is not None:
            events.append(event)
    return History(tuple(events[-LONGEST:]), user, unknown)


def parse_slate(one: Mapping[str, Any], catalogue: Catalogue, where: str) -> tuple[Event | None, int]:
    """One slate with its click; an event whose click is unknown is left out."""
    foreign = sorted(set(one) - {"slate", "click", "kind", "time"})
    if foreign:
        raise DataError(f"{where}: unknown field {foreign[0][:40]!r}; there are slate, click, kind, time.")
    ids = one.get("slate")
    if not isinstance(ids, Sequence) or isinstance(ids, str):
        raise DataError(f"{where}: 'slate' must be a list of item ids.")
    numbers = [number_of(item, catalogue, where) for item in ids]
    if len(set(map(str, ids))) != len(ids):
        raise DataError(f"{where}: an item stands twice in the slate.")
    kind = one.get("kind", "search")
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f"{where}: kind is search or rec, got {str(kind)[:40]!r}.")
    click, slot = one.get("click"), 0
    if click is not None:
        places = [place for place, item in enumerate(ids) if str(item) == str(click)]
        if not places:
            raise DataError(f"{where}: the click {click!r} is not in the slate.")
        if numbers[places[0]] < FIRST:
            return None, sum(item < FIRST for item in numbers)
        slot = sum(item >= FIRST for item in numbers[: places[0]]) + 1
    known = tuple(item for item in numbers if item >= FIRST)
    return (Event(known, slot, KINDS[kind]) if known else None), len(numbers) - len(known)


def number_of(one: Any, catalogue: Catalogue, where: str) -> int:
    """Internal number of an external id, 2 where it is unknown.

    Raises:
        DataError: not text and not a whole number.
    """
    if isinstance(one, bool) or not isinstance(one, (str, int)):
        raise DataError(f"{where}: an item id is text or a whole number, got {one!r}.")
    if isinstance(one, int) and one < 0:
        raise DataError(f"{where}: item ids are not negative, got {one}.")
    return int(catalogue.numbers([one])[0])


def read_histories(path: str | Path, catalogue: Catalogue) -> list[History]:
    """A JSON file: one history, `{"user": .., "history": [..]}`, or a list of these.

    Raises:
        DataError: not readable, not JSON, or a history is not what `parse_history` takes.
    """
    from core.files import read_bytes

    try:
        value = json.loads(read_bytes(Path(path), LARGEST))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    many = value if isinstance(value, list) and value and all(is_user(one) for one in value) else [value]
    found = []
    for index, one in enumerate(many):
        if is_user(one):
            user = str(one.get("user", index))
            found.append(parse_history(one["history"], catalogue, user, f"{path}, user {user}"))
        else:
            found.append(parse_history(one, catalogue, "", str(path)))
    return found


def is_user(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a JSON value is one user with a history."""
    return isinstance(value, Mapping) and "history" in value


def steps_from(histories: Sequence[History]) -> Steps:
    """Histories as a batch of steps; shorter ones are padded at the end, an empty one has an unused step."""
    time = max(1, *(len(history.events) for history in histories))
    slots = 1 + max([1, *(len(event.shown) for history in histories for event in history.events)])
    slate = np.zeros((len(histories), time, slots), np.int64)
    facts = np.zeros((3, len(histories), time), np.int64)
    for row, history in enumerate(histories):
        for t, event in enumerate(history.events):
            slate[row, t, 0] = NOTHING
            slate[row, t, 1 : 1 + len(event.shown)] = event.shown
            facts[:, row, t] = event.slot, event.kind, 1 + len(event.shown)
    shown, (click_idx, kind, lengths) = torch.from_numpy(slate), torch.from_numpy(facts)
    return Steps(shown, click_idx, lengths, kind, (lengths > 0) & (shown[..., 0] != UNKNOWN))
