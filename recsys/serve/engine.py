"""What a server does, without HTTP: rank for a user, step states for clicks, switch snapshots."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import DataError, RecurraError
from core.state import choose, join, rows, rows_from_bytes, rows_to_bytes, tensors, to_bytes
from core.units.contract import stay_eager
from core.weights import find
from recsys.features import Steps
from recsys.history import Event, History, parse_history, steps_from
from recsys.journal import Journal
from recsys.model import SlateModel
from recsys.models.filter import one_step
from recsys.models.interest import InterestNetwork
from recsys.predict import Filter, Slate, popular_slate, recommend
from recsys.refresh import with_items
from recsys.retrieval.audit import audited
from recsys.retrieval.shelf import Ready
from recsys.serve.arms import Arms
from recsys.serve.counters import Counters
from recsys.serve.snapshots import digest, opened, stamp
from recsys.serve.store import AnyStore, Click, Kept
from recsys.slates import FIRST
from recsys.trained import tables_of

AUDITED, AUDITED_ITEMS, AUDIENCE = 1000, 100, 16
"""One slate in so many is also asked of the whole table, for so many items; so many users at the start."""


@dataclass(frozen=True)
class Found:
    """What is known of a user when a slate is asked for, and the snapshot that will answer."""

    model: SlateModel
    snapshot: str
    retired: frozenset[int]
    state: Any = None
    """The kept one, or that of somebody of whom nothing is known."""
    known: bool = False
    recomputed: bool = False
    down: bool = False
    """The store cannot be read."""
    ready: Ready | None = None


def groups_of(model: SlateModel) -> int:
    """How many groups new items may have; 0 where the weights take none."""
    items = getattr(model.network, "items", None)
    return 0 if items is None else int(items.centre.shape[0])


class Engine:
    """A model and a store behind a few functions; safe from several threads.

    Args:
        policy: one policy, or shares of the users such as "greedy=20,inslate=80".
        log: folder that every slate with its click is written to.
        secret: users are kept and logged under a hash with this key.
        ann: faiss or usearch: neighbour lists of the items, for scores that are a product or a distance.
    """

    def __init__(
        self,
        weights: str,
        store: AnyStore | None,
        *,
        policy: str = "inslate",
        seed: int = 0,
        log: str | Path | None = None,
        secret: str | None = None,
        key: str = "recurra",
        ann: str | None = None,
    ) -> None:
        self.weights, self.store, self.seed, self.secret = weights, store, seed, secret
        self.arms = Arms.read(policy, key)
        self.journal = None if log is None else Journal(log)
        self.counters, self.lock = Counters(), threading.Lock()
        self.retired: frozenset[int] = frozenset()
        self.shelf: dict[str, int | None] = {}
        self.began = time.time()
        self.ann = ann
        self.base = opened(weights, ann)
        self.model = self.base
        self.tables = tables_of(self.model.network)
        path = find(weights)
        self.snapshot, self.stamp = digest(path), stamp(path)
        self.stock()
        items = np.unique(np.linspace(FIRST, len(self.model.catalogue) - 1, AUDIENCE).astype(int))
        for item in items.tolist():
            self.audit(self.replayed([Event((item,), 1, 0)]))

    @property
    def recall(self) -> float:
        """Share of the exact answers that the retrieval held; 1 where every answer is a look at all items."""
        return self.counters.found / self.counters.wanted if self.counters.wanted else 1.0

    def refresh(self) -> bool:
        """Take over other weights and other items, if there are; damaged weights are left alone."""
        switched = self.switch()
        with suppress(RecurraError):
            self.stock()
        if self.journal is not None:
            with suppress(RecurraError):
                self.journal.flush(time.time())
        return switched

    def switch(self) -> bool:
        """Load the weights again if their file is another one; requests under way keep the old ones."""
        try:
            path = find(self.weights)
            mark = stamp(path)
            if mark == self.stamp:
                return False
            snapshot = digest(path)
            model = opened(self.weights, self.ann)
        except (RecurraError, OSError):
            return False
        same, self.stamp = snapshot == self.snapshot, mark
        if same:
            return False
        with self.lock:
            self.base, self.snapshot, self.shelf = model, snapshot, {}
            self.place(model, {})
            self.began = time.time()
            self.counters.switches += 1
        return True

    def stock(self) -> None:
        """Take over what any process has put on the shelf or taken off it."""
        if self.store is None:
            return
        found = self.store.shelf()
        if found != self.shelf:
            with self.lock:
                self.place(self.base, found)
                self.shelf = found

    def place(self, base: SlateModel, shelf: Mapping[str, int | None]) -> None:
        """The model with the items of a shelf."""
        known = base.catalogue.numbers(list(shelf))
        pairs = list(zip(shelf.items(), known.tolist(), strict=True))
        most = groups_of(base)
        new = {
            item: group for (item, group), at in pairs if group is not None and at < FIRST and group < most
        }
        model = with_items(base, new)
        stay_eager(model.network)
        retired = frozenset(at for (_, group), at in pairs if group is None and at >= FIRST)
        self.model, self.tables, self.retired = model, tables_of(model.network), retired

    def known_as(self, user: str) -> str:
        """Under which name a user is kept."""
        if self.secret is None:
            return user
        return hashlib.blake2b(user.encode(), key=self.secret.encode()[:64], digest_size=16).hexdigest()

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
        found: "Found | None" = None,
    ) -> dict[str, Any]:
        """A slate for a user from the kept state, else from the given clicks, else from the groups' prior.

        Args:
            found: what `look_up` knows of the user, where it was asked for many at once.

        Raises:
            DataError, ConfigError: a request that cannot be met.
        """
        found = self.look_up([user])[0] if found is None else found
        model, snapshot, retired = found.model, found.snapshot, found.retired
        user = self.known_as(user)
        arm = policy or self.arms.policy(user)
        known = model.catalogue.numbers
        keep = Filter(
            None if candidates is None else frozenset(int(n) for n in known(candidates) if n >= FIRST),
            frozenset({*(int(n) for n in known(deny) if n >= FIRST), *retired}),
            seen,
            cap,
        )
        served = "clicks" if clicks else "prior"
        history = parse_history(list(clicks), model.catalogue, user)
        if found.down:
            served = "clicks, the store is down" if clicks else "popularity, the store is down"
            if not clicks:
                return self.popular(user, k, keep, served, snapshot)
        elif found.known:
            served, history = "state", self.kept_history(user) if seen == "drop" else History(())
        if served.startswith("clicks"):  # one state of the means, as a kept one is
            found = replace(found, state=self.replayed(history.events), ready=None)
        options: dict[str, Any] = {"user": user, "period": period, "temperature": temperature, "keep": keep}
        answer: Slate = recommend(
            model,
            history,
            k,
            arm,
            self.seed,
            explain=explain,
            repeats=repeats,
            state=found.state,
            ready=found.ready,
            **options,
        )
        self.counters.served[served] = self.counters.served.get(served, 0) + 1
        self.counters.unknown += answer.unknown
        self.counters.strangers += served == "prior"
        self.counters.recomputed += found.recomputed
        if found.known:
            self.counters.asked += 1
            if self.counters.asked % AUDITED == 0:
                self.audit(found.state)
        answer = replace(answer, served_by=served)
        own = self.arms.bucket(user)
        more = {"snapshot": snapshot, "recomputed": found.recomputed, "bucket": own}
        if self.journal is not None:
            more["slate_id"] = self.journal.shown(answer, time.time(), snapshot, own)
        return {**answer.as_dict(), **more}

    def look_up(self, users: Sequence[str]) -> list["Found"]:
        """What is known of users: one read of the store and one pass of the network for all."""
        with self.lock:
            model, snapshot, retired = self.model, self.snapshot, self.retired
        new = model.network.initial_state(1)
        here = Found(model, snapshot, retired, new)
        names = [self.known_as(user) for user in users]
        kept: Sequence[Kept | None] = [None] * len(users)
        states = join([new] * len(users))
        if self.store is not None:
            try:
                kept = self.store.get(names)
                states = self.states_of(kept, names, snapshot)
            except DataError:
                return [replace(here, down=True)] * len(users)
        thin = isinstance(model.network, InterestNetwork) and not model.network.items.rank
        ready = Ready.of(model.network, states) if thin else [None] * len(users)
        return [
            replace(
                here,
                state=rows(states, slice(index, index + 1)),
                known=row is not None,
                recomputed=row is not None and row.snapshot != snapshot,
                ready=one,
            )
            for index, (row, one) in enumerate(zip(kept, ready, strict=True))
        ]

    def audit(self, state: Any) -> None:
        """Compare the retrieval for a state with scores of all items; `/metrics` has how many it held."""
        wanted, found = audited(self.model.network, state, AUDITED_ITEMS)
        self.counters.wanted += wanted
        self.counters.found += found

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
            "seed": self.seed,
            "propensities": [1.0] * min(k, len(items)),
            "bucket": self.arms.bucket(user),
        }

    def kept_history(self, user: str, past: Callable[[str], list[str]] | None = None) -> History:
        """The last events of a user in the store, which is asked by `past` where it is at work."""
        assert self.store is not None
        values = [json.loads(text) for text in (past or self.store.events)(user)]
        return parse_history(values, self.model.catalogue, user)

    def states_of(
        self,
        kept: Sequence[Kept | None],
        users: Sequence[str],
        snapshot: str,
        past: Callable[[str], list[str]] | None = None,
    ) -> Any:
        """A batch of the states in rows; those of another snapshot are made again from the last events."""
        like = self.model.network.initial_state(1)
        old = {
            index: self.replayed(self.kept_history(users[index], past).events)
            for index, row in enumerate(kept)
            if row is not None and row.snapshot != snapshot
        }
        plain = to_bytes(like)
        fresh = [row.h if row is not None and row.snapshot == snapshot else plain for row in kept]
        states = rows_from_bytes(fresh, like)
        for index, state in old.items():
            for whole, part in zip(tensors(states), tensors(state), strict=True):
                whole[index] = part[0]
        return states

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
        network = self.model.network
        histories = [parse_history([json.loads(click.event)], self.model.catalogue) for click in clicks]
        states = self.states_of(before, [click.user for click in clicks], self.snapshot, past)
        self.counters.recomputed += sum(row is not None and row.snapshot != self.snapshot for row in before)
        with torch.inference_mode():
            steps = steps_from(histories)
            self.compare(states, steps)
            after = network.advance(self.tables, states, one_step(steps, 0))
            known = torch.tensor([bool(history.events) for history in histories])
            after = choose(known, after, states)  # an item that nobody knows moves nobody
        self.counters.batches += 1
        return rows_to_bytes(after)

    def compare(self, state: Any, steps: Steps) -> None:
        """Count what was predicted for these slates beside what was clicked."""
        network = self.model.network
        judged = (steps.lengths[:, 0] > 2).float()
        if not isinstance(network, InterestNetwork) or not bool(judged.any()):
            return
        h, traces, _ = network.parts(state)
        chance = network.slot_log_probs(self.tables, h[:, None], traces[:, None], one_step(steps, 0))
        self.counters.predicted += float(((1 - chance[:, 0, 0].exp()) * judged).sum())
        self.counters.observed += int(((steps.click_idx[:, 0] > 0) * judged).sum())

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

    def click_each(self, clicks: Sequence[Click]) -> list[int | RecurraError]:
        """The same, with an error for each that cannot be kept; a batch that fails is tried one by one."""
        try:
            return list(self.click(clicks))
        except RecurraError as error:
            return (
                [error] if len(clicks) == 1 else [one for click in clicks for one in self.click_each([click])]
            )

    def recommend_each(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any] | RecurraError]:
        """Slates for many requests at once, with an error for each that cannot be met."""
        answers: list[dict[str, Any] | RecurraError] = []
        for request, found in zip(requests, self.look_up([one["user"] for one in requests]), strict=True):
            try:
                answers.append(self.recommend(**request, found=found))
            except RecurraError as error:
                answers.append(error)
        return answers

    def retire(self, items: Sequence[Any]) -> int:
        """Never show these items again; how many of them are known."""
        numbers = self.model.catalogue.numbers(items)
        known = [str(item) for item, number in zip(items, numbers, strict=True) if number >= FIRST]
        self.shelve(dict.fromkeys(known))
        return len(known)

    def add(self, items: Mapping[str, int]) -> int:
        """Show these new items, too, with their groups' prior; items of the catalogue come back to it.

        Raises:
            DataError: a group that the weights do not have, or weights that take no new items.
        """
        most = groups_of(self.base)
        if not most:
            raise DataError("these weights take no new items: their posterior is learned as a whole.")
        for item, group in items.items():
            if not FIRST <= group < most:
                raise DataError(f"item {item!r}: group {group} is not one of {FIRST} to {most - 1}.")
        self.shelve(dict(items))
        return len(items)

    def shelve(self, items: Mapping[str, int | None]) -> None:
        """Keep it for all processes, and take it over."""
        if self.store is not None:
            self.store.shelve(items)
            self.stock()
            return
        with self.lock:
            self.shelf = {**self.shelf, **items}
            self.place(self.base, self.shelf)

    def forget(self, user: str) -> bool:
        """Leave no byte of a user in the store and the log; whether there was anything."""
        name = self.known_as(user)
        rows = self.journal.forget(name) if self.journal is not None else 0
        return bool(self.store.forget(name) if self.store is not None else False) or rows > 0
