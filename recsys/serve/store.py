"""States and last clicks of users in one SQLite file that several processes may share; what a store offers.

A click is one transaction that keeps other writers out: its key is inserted (a known key gives the answer it
had), the state is read, stepped and written. Killing the process loses nothing that was answered.
`secure_delete` is on from the first connection: a forgotten user leaves no byte.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import DataError

VERSION = 1
KEPT = 20
"""Clicks of a user that are kept, enough to compute a state of another snapshot again."""
DAY_S = 86_400
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS state(uid TEXT PRIMARY KEY, snapshot TEXT NOT NULL, step INTEGER NOT NULL,
    h BLOB NOT NULL, updated REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clicks(uid TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL,
    event TEXT NOT NULL, PRIMARY KEY(uid, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen(key TEXT PRIMARY KEY, uid TEXT NOT NULL, step INTEGER NOT NULL,
    time REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shelf(item TEXT PRIMARY KEY, grp INTEGER, retired INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Kept:
    """A user's row."""

    snapshot: str
    step: int
    h: bytes


@dataclass(frozen=True)
class Click:
    """One click to apply: who, what (an event as JSON), and the key that makes a repetition harmless."""

    user: str
    event: str
    key: str


Advance = Callable[[Sequence[Kept | None], Sequence[Click], Callable[[str], list[str]]], list[bytes]]
"""Rows before, clicks, and the last events of a user (for rows of another snapshot) -> states after."""


class AnyStore(Protocol):
    """What the engine asks of a store; every method may raise DataError, and has then changed nothing."""

    def get(self, users: Sequence[str]) -> list[Kept | None]: ...

    def events(self, user: str) -> list[str]: ...

    def apply(self, clicks: Sequence[Click], snapshot: str, advance: Advance) -> list[int]: ...

    def forget(self, user: str) -> bool: ...

    def shelve(self, items: Mapping[str, int | None]) -> None:
        """Keep items that were added (their group) or retired (None)."""
        ...

    def shelf(self) -> dict[str, int | None]:
        """All of them."""
        ...

    def sweep(self) -> int: ...

    def close(self) -> None: ...


class Store:
    """One file; safe from several threads and processes."""

    def __init__(self, path: str | Path, *, durable: bool = False) -> None:
        self.path, self.durable = Path(path), durable
        self.lock = threading.RLock()
        self.file: tuple[int, int] = (0, 0)
        self.base = self.connect()

    def connect(self) -> sqlite3.Connection:
        """A connection with the file's settings.

        Raises:
            DataError: not a store, of another version, or not writable.
        """
        try:
            base = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            base.execute("PRAGMA secure_delete=ON")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute(f"PRAGMA synchronous={'FULL' if self.durable else 'NORMAL'}")
            base.execute("PRAGMA wal_autocheckpoint=1000")
            base.executescript(SCHEMA)
            found = base.execute("SELECT version FROM meta").fetchone()
            if found is None:
                base.execute("INSERT INTO meta VALUES (?)", (VERSION,))
            elif found[0] != VERSION:
                raise DataError(f"{self.path}: a store of version {found[0]}, expected {VERSION}.")
            about = self.path.stat()
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"{self.path}: this store cannot be used ({error}).") from error
        self.file = (about.st_dev, about.st_ino)
        return base

    def present(self) -> None:
        """The file that was opened still lies at its place: a deleted one would take writes and lose them.

        Raises:
            DataError: it is gone. The next call finds a new, empty store there.
        """
        try:
            about = self.path.stat()
            if (about.st_dev, about.st_ino) == self.file:
                return
        except OSError:
            pass
        with suppress(sqlite3.Error):
            self.base.close()
        self.base = self.connect()
        raise DataError(f"the store {self.path.name} was deleted; an empty one stands in its place now.")

    def get(self, users: Sequence[str]) -> list[Kept | None]:
        """Rows of users, None for whom nothing is kept."""
        with self.lock:
            try:
                rows = [
                    self.base.execute("SELECT snapshot, step, h FROM state WHERE uid=?", (user,)).fetchone()
                    for user in users
                ]
            except sqlite3.Error as error:
                raise DataError(f"the store cannot be read ({error}).") from error
        return [None if row is None else Kept(*row) for row in rows]

    def events(self, user: str) -> list[str]:
        """The last events of a user, oldest first."""
        with self.lock:
            try:
                found = self.base.execute("SELECT event FROM clicks WHERE uid=? ORDER BY seq", (user,))
                rows = found.fetchall()
            except sqlite3.Error as error:
                raise DataError(f"the store cannot be read ({error}).") from error
        return [row[0] for row in rows]

    def apply(self, clicks: Sequence[Click], snapshot: str, advance: Advance) -> list[int]:
        """Apply at most one click per user, all or none; gives the step number each user has then.

        Raises:
            DataError: the store is gone, full or damaged; nothing was applied.
        """
        now = time.time()
        with self.lock:
            self.present()
            try:
                self.base.execute("BEGIN IMMEDIATE")  # writers of other processes wait here
                known = [
                    self.base.execute("SELECT step FROM seen WHERE key=?", (click.key,)).fetchone()
                    for click in clicks
                ]
                fresh = [click for click, row in zip(clicks, known, strict=True) if row is None]
                before = self.get([click.user for click in fresh])
                after = advance(before, fresh, self.events) if fresh else []
                steps = {
                    click.key: (row.step if row else 0) + 1 for click, row in zip(fresh, before, strict=True)
                }
                self.base.executemany(
                    "INSERT OR REPLACE INTO state VALUES (?,?,?,?,?)",
                    [
                        (one.user, snapshot, steps[one.key], h, now)
                        for one, h in zip(fresh, after, strict=True)
                    ],
                )
                self.base.executemany(
                    "INSERT INTO clicks VALUES (?,?,?,?)",
                    [(one.user, steps[one.key], now, one.event) for one in fresh],
                )
                old = [(one.user, steps[one.key] - KEPT) for one in fresh if steps[one.key] > KEPT]
                self.base.executemany("DELETE FROM clicks WHERE uid=? AND seq<=?", old)
                self.base.executemany(
                    "INSERT INTO seen VALUES (?,?,?,?)",
                    [(one.key, one.user, steps[one.key], now) for one in fresh],
                )
                self.base.execute("COMMIT")
            except (sqlite3.Error, DataError) as error:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise DataError(f"the store could not keep the clicks ({error}).") from error
        pairs = zip(clicks, known, strict=True)
        return [steps[click.key] if row is None else int(row[0]) for click, row in pairs]

    def forget(self, user: str) -> bool:
        """Delete everything of a user, from the file and its log; whether there was anything."""
        with self.lock:
            count = 0
            try:
                self.base.execute("BEGIN IMMEDIATE")
                for table in ("state", "clicks", "seen"):
                    count += self.base.execute(f"DELETE FROM {table} WHERE uid=?", (user,)).rowcount
                self.base.execute("COMMIT")
                self.base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise DataError(f"the store could not forget ({error}).") from error
        return count > 0

    def shelve(self, items: Mapping[str, int | None]) -> None:
        """Keep items that were added (their group) or retired (None)."""
        with self.lock:
            self.present()
            try:
                self.base.execute("BEGIN IMMEDIATE")
                for item, group in items.items():
                    if group is None:
                        self.base.execute("INSERT OR IGNORE INTO shelf VALUES (?,NULL,1)", (item,))
                        self.base.execute("UPDATE shelf SET retired=1 WHERE item=?", (item,))
                    else:
                        self.base.execute("INSERT OR REPLACE INTO shelf VALUES (?,?,0)", (item, group))
                self.base.execute("COMMIT")
            except sqlite3.Error as error:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise DataError(f"the store could not keep the items ({error}).") from error

    def shelf(self) -> dict[str, int | None]:
        """Items that were added, with their groups, and retired ones, with None."""
        with self.lock:
            try:
                rows = self.base.execute("SELECT item, grp, retired FROM shelf ORDER BY item").fetchall()
            except sqlite3.Error as error:
                raise DataError(f"the store cannot be read ({error}).") from error
        return {item: None if retired else group for item, group, retired in rows}

    def sweep(self) -> int:
        """Drop keys older than a day."""
        with self.lock:
            limit = time.time() - DAY_S
            return self.base.execute("DELETE FROM seen WHERE time<?", (limit,)).rowcount

    def close(self) -> None:
        """Write everything into the file and let it go."""
        with self.lock:
            self.base.close()
