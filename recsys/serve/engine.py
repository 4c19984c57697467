"""What a server does, without HTTP: rank for a user, step states for clicks, switch snapshots."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import DataError, RecurraError
from core.state import from_bytes, join, rows, to_bytes
from core.weights import find
from recsys.data import FIRST
from recsys.history import Event, History, parse_history, steps_from
from recsys.models.filter import one_step
from recsys.predict import Filter, Slate, load_model, popular_slate, recommend
from recsys.serve.store import Click, Kept, Store


@dataclass
class Counters:
    """What `/metrics` tells."""

    served: dict[str, int] = field(default_factory=dict)
    """By where the answer came from."""
    clicks: int = 0
    repeated: int = 0
    recomputed: int = 0
    unknown: int = 0
    predicted: float = 0.0
    """Sum of the predicted chances of the clicked slots, beside how many there were."""
    observed: int = 0
    batches: int = 0
    switches: int = 0


class Engine:
    """A model and a store behind four functions; safe from several threads."""

    def __init__(self, weights: str, store: Store | None, *, policy: str = "inslate", seed: int = 0) -> None:
        self.weights, self.store, self.policy, self.seed = weights, store, policy, seed
        self.counters, self.lock = Counters(), threading.Lock()
        self.retired: set[int] = set()
        self.model = load_model(weights)
        self.tables = self.model.network.items.tables()
        self.snapshot = digest(find(weights))

    def refresh(self) -> bool:
        """Take over the weights if their file has changed; a damaged one is left alone."""
        try:
            path = find(self.weights)
            snapshot = digest(path)
            if snapshot == self.snapshot:
                return False
            load_model.cache_clear()
            model = load_model(self.weights)
            tables = model.network.items.tables()
        except RecurraError:
            return False
        with self.lock:
            self.model, self.tables, self.snapshot = model, tables, snapshot
            self.counters.switches += 1
        return True

    def recommend(
        self,
        user: str,
        k: int,
        *,
        clicks: Sequence[Any] = (),
        policy: str | None = None,
        temperature: float | None = None,
        period: int = 0,
        candidates: Sequence[Any] | None = None,
        deny: Sequence[Any] = (),
        seen: str = "keep",
        cap: int | None = None,
        explain: bool = False,
        repeats: int = 0,
    ) -> dict[str, Any]:
        """A slate for a user from the kept state, else from the given clicks, else from the groups' prior.

        Raises:
            DataError, ConfigError: a request that cannot be met.
        """
        model, snapshot = self.model, self.snapshot
        known = model.catalogue.numbers
        keep = Filter(
            None if candidates is None else frozenset(int(n) for n in known(candidates) if n >= FIRST),
            frozenset({*(int(n) for n in known(deny) if n >= FIRST), *self.retired}),
            seen,
            cap,
        )
        state, history, served, recomputed = (
            None,
            parse_history(list(clicks), model.catalogue, user),
            "prior",
            False,
        )
        if clicks:
            served = "clicks"
        if self.store is not None:
            try:
                row = self.store.get([user])[0]
                if row is not None:
                    history, served = self.kept_history(user), "state"
                    state, recomputed = self.state_of(row, history), row.snapshot != snapshot
            except DataError:
                served = "clicks, the store is down" if clicks else "popularity, the store is down"
                if not clicks:
                    return self.popular(user, k, keep, served, snapshot)
        options: dict[str, Any] = {"user": user, "period": period, "temperature": temperature, "keep": keep}
        answer: Slate = recommend(
            model,
            history,
            k,
            policy or self.policy,
            self.seed,
            explain=explain,
            repeats=repeats,
            state=state,
            **options,
        )
        self.counters.served[served] = self.counters.served.get(served, 0) + 1
        self.counters.unknown += answer.unknown
        self.counters.recomputed += recomputed
        found = replace(answer, served_by=served).as_dict()
        return {**found, "snapshot": snapshot, "recomputed": recomputed, "bucket": bucket(user)}

    def popular(self, user: str, k: int, keep: Filter, served: str, snapshot: str) -> dict[str, Any]:
        """The most clicked items, when nothing else is left."""
        self.counters.served[served] = self.counters.served.get(served, 0) + 1
        numbers = self.model.catalogue.numbers
        items = [
            item
            for item in popular_slate(self.model, len(self.model.catalogue) - FIRST)
            if int(numbers([item])[0]) not in keep.deny
        ]
        return {
            "user": user,
            "items": items[:k],
            "served_by": served,
            "snapshot": snapshot,
            "policy": "popularity",
            "bucket": bucket(user),
        }

    def kept_history(self, user: str) -> History:
        """The last events of a user in the store."""
        assert self.store is not None
        values = [json.loads(text) for text in self.store.events(user)]
        return parse_history(values, self.model.catalogue, user)

    def state_of(self, row: Kept, history: History) -> Any:
        """The state in a row; one of another snapshot is computed again from the last events."""
        like = self.model.network.initial_state(1)
        if row.snapshot == self.snapshot:
            return from_bytes(row.h, like)
        return self.replayed(history.events)

    def replayed(self, events: Sequence[Event]) -> Any:
        """State after events."""
        with torch.inference_mode():
            state = self.model.network.initial_state(1)
            if events:
                steps = steps_from([History(tuple(events))])
                for t in range(len(events)):
                    state = self.model.network.advance(self.tables, state, one_step(steps, t))
        return state

    def advance(
        self, before: Sequence[Kept | None], clicks: Sequence[Click], past: Callable[[str], list[str]]
    ) -> list[bytes]:
        """States after one click each: one step of the unit for all."""
        network, histories, states = self.model.network, [], []
        like = network.initial_state(1)
        for row, click in zip(before, clicks, strict=True):
            history = parse_history([json.loads(click.event)], self.model.catalogue)
            histories.append(history)
            if row is None:
                states.append(like)
            elif row.snapshot == self.snapshot:
                states.append(from_bytes(row.h, like))
            else:
                values = [json.loads(text) for text in past(click.user)]
                states.append(self.replayed(parse_history(values, self.model.catalogue).events))
                self.counters.recomputed += 1
        with torch.inference_mode():
            steps = steps_from(histories)
            state = network.advance(self.tables, join(states), one_step(steps, 0))
        self.counters.batches += 1
        known = [bool(history.events) for history in histories]
        return [
            to_bytes(rows(state, slice(index, index + 1)) if known[index] else states[index])
            for index in range(len(clicks))
        ]

    def click(self, clicks: Sequence[Click]) -> list[int]:
        """Apply clicks of different users; gives their step numbers.

        Raises:
            DataError: there is no store, or it cannot keep them.
        """
        if self.store is None:
            raise DataError("this server has no store for clicks; send the history with each request.")
        steps = self.store.apply(clicks, self.snapshot, self.advance)
        self.counters.clicks += len(clicks)
        return steps

    def retire(self, items: Sequence[Any]) -> int:
        """Never show these items again; how many of them are known."""
        numbers = {int(number) for number in self.model.catalogue.numbers(items) if number >= FIRST}
        self.retired |= numbers
        return len(numbers)


def digest(path: Path) -> str:
    """Name of a snapshot: the first digits of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def bucket(user: str, key: str = "recurra", count: int = 100) -> int:
    """A stable bucket 0..99 of a user, for A/B shares."""
    data = hashlib.blake2b(user.encode(), key=key.encode(), digest_size=8).digest()
    return int.from_bytes(data, "big") % count
