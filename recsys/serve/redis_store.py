"""The same store on a Redis, for several machines behind one balancer (extra `redis`).

    r:state:<user>   snapshot, step, state            r:clicks:<user>  the last events
    r:seen:<key>     step, expires after a day        r:keys:<user>    his keys, for forgetting
    r:shelf          items added and retired

A batch is one optimistic transaction: states and keys are watched, and if anybody writes one of them before
EXEC, nothing of the batch is applied and it is tried again.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import DataError, MissingExtraError
from recsys.serve.store import DAY_S, KEPT, Advance, Click, Kept

TRIES = 50
PREFIX = "r"


class RedisStore:
    """A store at `redis://host:port/db`."""

    def __init__(self, address: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError('a Redis store needs redis: pip install "recurra[redis]".') from error
        self.errors, self.race = redis.RedisError, redis.WatchError
        self.base: Any = redis.Redis.from_url(address, socket_timeout=5, socket_connect_timeout=5)
        self.call(self.base.ping)

    def call(self, act: Any, *arguments: Any) -> Any:
        """An answer of the server.

        Raises:
            DataError: it cannot be reached, or refuses.
        """
        try:
            return act(*arguments)
        except self.errors as error:
            raise DataError(f"the store cannot be reached ({error}).") from error

    def get(self, users: Sequence[str]) -> list[Kept | None]:
        """Rows of users, None for whom nothing is kept."""
        pipe = self.base.pipeline(transaction=False)
        for user in users:
            pipe.hmget(f"{PREFIX}:state:{user}", "snapshot", "step", "h")
        return [kept(row) for row in self.call(pipe.execute)]

    def events(self, user: str) -> list[str]:
        """The last events of a user, oldest first."""
        return [row.decode() for row in self.call(self.base.lrange, f"{PREFIX}:clicks:{user}", 0, -1)]

    def apply(self, clicks: Sequence[Click], snapshot: str, advance: Advance) -> list[int]:
        """Apply at most one click per user, all or none; gives the step number each user has then.

        Raises:
            DataError: the server is gone, or others write the same users all the time; nothing was applied.
        """
        for _ in range(TRIES):
            try:
                return self.attempt(clicks, snapshot, advance)
            except self.race:
                continue
            except self.errors as error:
                raise DataError(f"the store could not keep the clicks ({error}).") from error
        raise DataError("the store could not keep the clicks (others write the same users all the time).")

    def attempt(self, clicks: Sequence[Click], snapshot: str, advance: Advance) -> list[int]:
        """One optimistic transaction; raises WatchError when somebody was faster."""
        with self.base.pipeline() as pipe:
            watched = [f"{PREFIX}:seen:{click.key}" for click in clicks]
            watched += [f"{PREFIX}:state:{click.user}" for click in clicks]
            pipe.watch(*watched)
            known = pipe.mget(watched[: len(clicks)])
            fresh = [click for click, step in zip(clicks, known, strict=True) if step is None]
            before = []
            for click in fresh:
                before.append(kept(pipe.hmget(f"{PREFIX}:state:{click.user}", "snapshot", "step", "h")))
            after = advance(before, fresh, self.events) if fresh else []
            steps, now = {}, time.time()
            pipe.multi()
            for click, row, h in zip(fresh, before, after, strict=True):
                step = (row.step if row else 0) + 1
                steps[click.key] = step
                values = {"snapshot": snapshot, "step": step, "h": h, "updated": now}
                pipe.hset(f"{PREFIX}:state:{click.user}", mapping=values)
                pipe.rpush(f"{PREFIX}:clicks:{click.user}", click.event)
                pipe.ltrim(f"{PREFIX}:clicks:{click.user}", -KEPT, -1)
                pipe.set(f"{PREFIX}:seen:{click.key}", step, ex=DAY_S)
                pipe.zadd(f"{PREFIX}:keys:{click.user}", {click.key: now})
                pipe.zremrangebyscore(f"{PREFIX}:keys:{click.user}", 0, now - DAY_S)
            pipe.execute()
        pairs = zip(clicks, known, strict=True)
        return [steps[click.key] if step is None else int(step) for click, step in pairs]

    def forget(self, user: str) -> bool:
        """Delete everything of a user; whether there was anything."""
        keys = [key.decode() for key in self.call(self.base.zrange, f"{PREFIX}:keys:{user}", 0, -1)]
        names = [f"{PREFIX}:{part}:{user}" for part in ("state", "clicks", "keys")]
        return bool(self.call(self.base.delete, *names, *(f"{PREFIX}:seen:{key}" for key in keys)))

    def shelve(self, items: Mapping[str, int | None]) -> None:
        """Keep items that were added (their group) or retired (None)."""
        values = {item: -1 if group is None else group for item, group in items.items()}
        if values:
            self.call(lambda: self.base.hset(f"{PREFIX}:shelf", mapping=values))

    def shelf(self) -> dict[str, int | None]:
        """Items that were added, with their groups, and retired ones, with None."""
        rows = self.call(self.base.hgetall, f"{PREFIX}:shelf")
        return {item.decode(): None if int(group) < 0 else int(group) for item, group in sorted(rows.items())}

    def sweep(self) -> int:
        """Keys expire by themselves."""
        return 0

    def close(self) -> None:
        """Let the server go."""
        self.base.close()


def kept(row: Sequence[Any]) -> Kept | None:
    """A row out of a hash."""
    snapshot, step, h = row
    return None if h is None else Kept(snapshot.decode(), int(step), h)
