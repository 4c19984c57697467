"""The HTTP side: bodies with limits, clicks in micro-batches, Prometheus figures, one sentence per error."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from core.errors import DataError, RecurraError
from recsys.history import parse_history
from recsys.predict import POLICIES
from recsys.serve.engine import Engine
from recsys.serve.store import Click
from recsys.slates import FIRST

MOST_BYTES = 1 << 20
"""Of a body."""
GATHER_S, MOST_CLICKS, MOST_WAITING = 0.005, 256, 2000
Id = Annotated[str, Field(min_length=1, max_length=128)] | Annotated[int, Field(ge=0, lt=2**63)]


class Body(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Shown(Body):
    slate: list[Id] = Field(max_length=200)
    click: Id | None = None
    kind: Literal["search", "rec", "recommendation", "unknown"] = "search"


class Recommend(Body):
    user: Id
    k: int = Field(10, ge=1, le=200)
    clicks: list[Id | Shown] = Field(default_factory=list, max_length=200)
    policy: str | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    period: int = Field(0, ge=0, lt=2**53)
    candidates: list[Id] | None = Field(None, max_length=100_000)
    deny: list[Id] = Field(default_factory=list, max_length=100_000)
    seen: Literal["keep", "drop"] = "keep"
    cap: int | None = Field(None, ge=1)
    explain: bool = False
    repeats: int = Field(0, ge=0, le=200)


class Clicked(Body):
    user: Id
    item: Id | None = None
    slate_id: str | None = Field(None, max_length=64)
    slate: list[Id] | None = Field(None, max_length=200)
    kind: Literal["search", "rec", "recommendation", "unknown"] = "rec"
    key: str = Field(min_length=1, max_length=128)


class Forget(Body):
    user: Id


class New(Body):
    item: Id
    group: int = Field(ge=0, lt=2**31)


class ItemRows(Body):
    retire: list[Id] = Field(default_factory=list, max_length=100_000)
    add: list[New] = Field(default_factory=list, max_length=100_000)


class Batcher:
    """Work gathered for 5 ms or 256 pieces, done in one go in a thread, in order.

    Args:
        work: pieces -> an answer or an error for each.
        owner: at most one piece of an owner at a time; None: no matter.
    """

    def __init__(
        self, work: Callable[[list[Any]], list[Any]], owner: Callable[[Any], str] | None = None
    ) -> None:
        self.work, self.owner = work, owner
        self.waiting: deque[tuple[Any, asyncio.Future[Any], float]] = deque()
        self.arrived = asyncio.Event()

    async def add(self, piece: Any) -> Any:
        """The answer to a piece.

        Raises:
            DataError: too many are waiting, or whatever the work says of this piece.
        """
        if len(self.waiting) >= MOST_WAITING:
            raise DataError("busy")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((piece, future, time.monotonic()))
        self.arrived.set()
        return await future

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.arrived.wait()
            await asyncio.sleep(GATHER_S)
            batch, later, owners = [], [], set()
            while self.waiting and len(batch) < MOST_CLICKS:
                one = self.waiting.popleft()
                name = None if self.owner is None else self.owner(one[0])
                (later if name is not None and name in owners else batch).append(one)
                owners.add(name)
            self.waiting.extendleft(reversed(later))
            if not self.waiting:
                self.arrived.clear()
            try:
                answers = await asyncio.to_thread(self.work, [piece for piece, _, _ in batch])
            except Exception as error:  # of one batch: the next ones are served
                answers = [error] * len(batch)
            for (_, future, _), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    @property
    def age_s(self) -> float:
        """How long the oldest piece waits."""
        return time.monotonic() - self.waiting[0][2] if self.waiting else 0.0


class Limited:
    """Refuses bodies that say they are too long before they are read, others as soon as they are."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"0")
            said = length.isdigit() and int(length) <= MOST_BYTES
            pieces = await gathered(receive) if said and b"transfer-encoding" in headers else deque()
            if not said or pieces is None:
                await sentence(413, f"a body has at most {MOST_BYTES} bytes.")(scope, receive, send)
                return

            async def again() -> Any:
                return pieces.popleft() if pieces else await receive()

            await self.app(scope, again if pieces else receive, send)
            return
        await self.app(scope, receive, send)


async def gathered(receive: Any) -> deque[Any] | None:
    """The pieces of a body whose length is not known; None where it becomes too long."""
    pieces, total = deque(), 0
    while True:
        pieces.append(await receive())
        total += len(pieces[-1].get("body", b""))
        if total > MOST_BYTES:
            return None
        if not pieces[-1].get("more_body"):
            return pieces


def create_app(engine: Engine, *, poll_s: float = 1.0) -> FastAPI:
    """The application around an engine."""
    batcher = Batcher(engine.click_each, lambda click: click.user)
    slates = Batcher(engine.recommend_each)
    began = time.time()

    async def watch() -> None:
        while True:
            await asyncio.sleep(poll_s)
            await asyncio.to_thread(engine.refresh)
            if engine.store is not None:
                with suppress(Exception):
                    await asyncio.to_thread(engine.store.sweep)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (batcher.run(), slates.run(), watch())]
        yield
        for task in tasks:
            task.cancel()
        if engine.journal is not None:
            engine.journal.flush(time.time(), everything=True)

    app = FastAPI(title="Recurra recsys", lifespan=life, docs_url=None, redoc_url=None)

    app.add_middleware(Limited)

    @app.exception_handler(RecurraError)
    async def refused(_: Request, error: RecurraError) -> JSONResponse:
        if str(error) == "busy":
            return sentence(503, "too many requests are waiting; try again.", {"Retry-After": "1"})
        return sentence(503 if "store" in str(error) else 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return sentence(422, f"{place}: {first['msg']}")

    @app.post("/recommend")
    async def recommend(body: Recommend) -> JSONResponse:
        if body.policy is not None and body.policy not in POLICIES:
            raise DataError(f"no policy {body.policy!r}; there are {', '.join(POLICIES)}.")
        values = body.model_dump(exclude={"user", "k", "clicks"})
        clicks = [one if isinstance(one, (str, int)) else one.model_dump() for one in body.clicks]
        asked = {"user": str(body.user), "k": body.k, "clicks": clicks, **values}
        return JSONResponse(await slates.add(asked))

    @app.post("/click")
    async def click(body: Clicked) -> JSONResponse:
        if body.slate is None:
            if body.item is None:
                raise DataError("a click names an item, or a slate on which nothing was clicked.")
            event: Any = body.item
        else:
            event = {"slate": body.slate, "click": body.item, "kind": body.kind}
        # a click that cannot be read must not fail the batch it would be in
        parse_history([event], engine.model.catalogue)
        user = engine.known_as(str(body.user))
        step = await batcher.add(Click(user, json.dumps(event), f"{user}\0{body.key}"))
        if body.slate_id is not None and engine.journal is not None:
            engine.journal.clicked(body.slate_id, body.item)
        return JSONResponse({"user": user, "step": step, "snapshot": engine.snapshot})

    @app.post("/forget")
    def forget(body: Forget) -> dict[str, Any]:
        if engine.store is None and engine.journal is None:
            raise DataError("this server has no store and no log; nothing is kept of anybody.")
        return {"forgotten": engine.forget(str(body.user))}

    @app.post("/items")
    def items(body: ItemRows) -> dict[str, Any]:
        if not body.retire and not body.add:
            raise DataError("name items to add or to retire.")
        added = engine.add({str(one.item): one.group for one in body.add}) if body.add else 0
        return {"retired": engine.retire(body.retire) if body.retire else 0, "added": added}

    @app.get("/docs", response_class=HTMLResponse)
    def docs() -> str:
        return page_of(app.openapi())

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    def ready() -> Any:
        if engine.store is not None:
            engine.store.get(["?"])
        return {"status": "ready", "snapshot": engine.snapshot, "items": len(engine.model.catalogue)}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        one = engine.counters
        rows = [
            ("recurra_clicks_total", one.clicks),
            ("recurra_click_batches_total", one.batches),
            ("recurra_recomputed_states_total", one.recomputed),
            ("recurra_unknown_ids_total", one.unknown),
            ("recurra_unknown_users_total", one.strangers),
            ("recurra_predicted_clicks_total", round(one.predicted, 6)),
            ("recurra_observed_clicks_total", one.observed),
            ("recurra_snapshot_age_seconds", round(time.time() - engine.began, 3)),
            ("recurra_items", len(engine.model.catalogue) - FIRST - len(engine.retired)),
            ("recurra_snapshot_switches_total", one.switches),
            ("recurra_retrieval_audited_items_total", one.wanted),
            ("recurra_retrieval_recall", round(engine.recall, 6)),
            ("recurra_queue_length", len(batcher.waiting) + len(slates.waiting)),
            ("recurra_queue_age_seconds", round(max(batcher.age_s, slates.age_s), 6)),
            ("recurra_uptime_seconds", round(time.time() - began, 3)),
        ]
        text = "".join(f"{name} {value}\n" for name, value in rows)
        for served, count in one.served.items():
            text += f'recurra_slates_total{{served_by="{served}"}} {count}\n'
        return text

    return app


def sentence(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as one sentence."""
    return JSONResponse({"error": text}, status, headers)


def page_of(api: dict[str, Any]) -> str:
    """The interface as one page that asks no other host for anything; `/openapi.json` has all of it."""
    rows = []
    for path, verbs in api["paths"].items():
        for verb, about in verbs.items():
            body = (
                about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            )
            name = body.get("$ref", "").rpartition("/")[2]
            fields = api["components"]["schemas"].get(name, {}) if name else {}
            needed = set(fields.get("required", ()))
            words = ", ".join(
                f"<b>{field}</b>" if field in needed else field for field in fields.get("properties", {})
            )
            rows.append(f"<tr><td>{verb.upper()}</td><td>{path}</td><td>{words or '-'}</td></tr>")
    head = "<tr><th>verb</th><th>path</th><th>body (needed fields are bold)</th></tr>"
    style = "body{font-family:sans-serif;margin:2rem}td,th{padding:.3rem 1rem .3rem 0;text-align:left}"
    return (
        f"<!doctype html><html lang='en'><title>{api['info']['title']}</title><style>{style}</style>"
        f"<h1>{api['info']['title']}</h1><table>{head}{''.join(rows)}</table>"
        "<p><a href='openapi.json'>openapi.json</a></p></html>"
    )
