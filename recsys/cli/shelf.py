"""`recommend`, `similar`, `serve`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from core.terminal import (
    Json,
    OutFolder,
    Seed,
    Threads,
    Weights,
    emit,
    need,
    say,
    set_threads,
    target,
)
from recsys.cli.shared import app


@app.command()
def recommend(
    history: Annotated[
        Path, typer.Option("--history", help="JSON: clicks or slates of one user, or of many.")
    ],
    policy: Annotated[str, typer.Option(help="greedy, ts, inslate, ... (see the README).")] = "greedy",
    k: Annotated[int, typer.Option("--k", min=1, help="Items of a slate.")] = 10,
    temperature: Annotated[
        float | None, typer.Option(help="Of the spread; epsilon of eps. Default: the policy's own.")
    ] = None,
    period: Annotated[int, typer.Option(help="The next period shows other draws.")] = 0,
    candidates: Annotated[Path | None, typer.Option(help="Only these items, an id a line.")] = None,
    stock: Annotated[Path | None, typer.Option(help="Only items that are there, an id a line.")] = None,
    deny: Annotated[Path | None, typer.Option(help="Never these, an id a line.")] = None,
    seen: Annotated[str, typer.Option(help="keep or drop what the user has clicked.")] = "keep",
    cap: Annotated[int | None, typer.Option(min=1, help="Most items of one group.")] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Repeated draws for propensities.")] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Mean, spread, group and draw of each item.")
    ] = False,
    log: Annotated[
        Path | None, target("Parquet file of the slates, a row a slot, for ope and replay.", "--log")
    ] = None,
    weights: Weights = None,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Recommend a slate for users known by their history alone.

    Example: recurra recsys recommend --history clicks.json --policy inslate --k 10 --explain
    """
    set_threads(threads)
    from recsys.history import read_histories
    from recsys.model import load_model
    from recsys.predict import Filter, read_ids
    from recsys.predict import recommend as run
    from recsys.trained import DEFAULT

    model = load_model(weights or DEFAULT)
    only = [read_ids(path, model.catalogue) for path in (candidates, stock) if path is not None]
    keep = Filter(
        candidates=frozenset.intersection(*only) if only else None,
        deny=read_ids(deny, model.catalogue) if deny is not None else frozenset(),
        seen=seen,
        cap=cap,
    )
    answers = [
        run(
            model,
            one,
            k,
            policy,
            seed,
            period=period,
            temperature=temperature,
            keep=keep,
            repeats=repeats,
            explain=explain,
        )
        for one in read_histories(history, model.catalogue)
    ]
    lines = []
    for answer in answers:
        who = f"{answer.user}: " if answer.user else ""
        lines.append(f"{who}{' '.join(map(str, answer.items))}")
        lines += [
            f"  {row['item']}: group {row['group']}, mean {row['mean']:.3f}, spread {row['spread']:.3f}, "
            f"{row['clicks']} clicks in {row['shown']} showings"
            + ("" if row["draw"] is None else f", draw {row['draw']:.3f}")
            for row in answer.why
        ]
        if answer.unknown:
            lines.append(f"  ({answer.unknown} ids of the history are not in the catalogue)")
    if log is not None:
        from recsys.journal import rows_of, write_rows

        now = time.time()
        write_rows(log, [row for answer in answers for row in rows_of(answer, now)])
    result = [answer.as_dict() for answer in answers]
    emit({"n": len(result), "seen": seen, "slates": result}, json_path, lines)


@app.command()
def similar(
    wanted: Annotated[list[str], typer.Argument(help="Item ids.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many.")] = 10,
    candidates: Annotated[Path | None, typer.Option(help="Only these items, an id a line.")] = None,
    stock: Annotated[Path | None, typer.Option(help="Only items that are there, an id a line.")] = None,
    deny: Annotated[Path | None, typer.Option(help="Never these, an id a line.")] = None,
    weights: Weights = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """The nearest items.

    Example: recurra recsys similar 1318 --k 5
    """
    set_threads(threads)
    from recsys.model import load_model
    from recsys.predict import Filter, read_ids
    from recsys.predict import similar as run
    from recsys.trained import DEFAULT

    model = load_model(weights or DEFAULT)
    only = [read_ids(path, model.catalogue) for path in (candidates, stock) if path is not None]
    keep = Filter(
        candidates=frozenset.intersection(*only) if only else None,
        deny=read_ids(deny, model.catalogue) if deny is not None else frozenset(),
    )
    found = {item: run(model, item, k, keep) for item in wanted}
    lines = [f"{item}: {' '.join(str(row['item']) for row in rows)}" for item, rows in found.items()]
    emit({"items": found}, json_path, lines)


@app.command()
def serve(
    weights: Weights = None,
    store: Annotated[
        str,
        typer.Option(help="SQLite file of states and clicks, redis://HOST:PORT/DB, or none: keep nothing."),
    ] = "recsys.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8080,
    policy: Annotated[
        str,
        typer.Option(help="Policy where a request names none, or shares of the users: greedy=20,inslate=80."),
    ] = "inslate",
    key: Annotated[str, typer.Option(help="Another key deals the users to the shares anew.")] = "recurra",
    log: Annotated[
        Path | None, typer.Option(help="Folder that every slate is logged to, with its click.")
    ] = None,
    hash_ids: Annotated[
        str | None, typer.Option("--hash-ids", help="Keep and log users under a hash with this secret.")
    ] = None,
    durable: Annotated[bool, typer.Option("--durable", help="One fsync per batch of clicks.")] = False,
    ann: Annotated[
        str | None,
        typer.Option(help="faiss or usearch: neighbour lists, for scores that are a product or a distance."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Serve slates over HTTP: POST /recommend, /click, /forget, /items; GET /health, /ready, /metrics, /docs.

    Example: recurra recsys serve --weights snapshots/current --store states.db --log log/
    """
    need("serve", "fastapi", "uvicorn")
    set_threads(threads or 1)
    import uvicorn

    from recsys.serve.app import create_app
    from recsys.serve.arms import Arms
    from recsys.serve.engine import Engine
    from recsys.serve.store import AnyStore, Store
    from recsys.slates import FIRST
    from recsys.trained import DEFAULT

    Arms.read(policy, key)
    kept: AnyStore | None = None
    if store.startswith("redis://"):
        from recsys.serve.redis_store import RedisStore

        kept = RedisStore(store)
    elif store != "none":
        kept = Store(store, durable=durable)
    name = weights or DEFAULT
    engine = Engine(name, kept, policy=policy, seed=seed, log=log, secret=hash_ids, key=key, ann=ann)
    count = len(engine.model.catalogue) - FIRST
    if ann is not None:
        say(f"neighbour lists of {ann} hold {engine.recall:.4f} of the exact answers at the start")
    url = f"http://{host}:{port}"
    say(f"{url}  snapshot {engine.snapshot}, {count} items (Ctrl-C stops)")
    if json_path is not None:
        facts = {"url": url, "snapshot": engine.snapshot, "items": count, "recall": engine.recall}
        emit(facts, json_path, [url])
    uvicorn.run(create_app(engine), host=host, port=port, log_level="warning")


@app.command()
def publish(
    weights: Annotated[str, typer.Argument(help="Weights, or a run folder.")],
    out: OutFolder = Path("snapshots"),
    json_path: Json = None,
) -> None:
    """Make weights the current snapshot; servers that have OUT/current open switch without losing a request.

    Example: recurra recsys publish today.safetensors -o snapshots/
    """
    from recsys.serve.snapshots import publish as run

    folder = run(weights, out)
    emit({"snapshot": folder.name, "folder": str(folder)}, json_path, [f"{out}/current -> {folder.name}"])
