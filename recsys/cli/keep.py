"""What happens to weights and logs later on: `refresh`, `replay`, `export`."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import Json, OutFolder, Seed, Threads, Weights, emit, need, set_threads, target
from recsys.cli.shared import Items, app, logs_of, mapped


@app.command()
def refresh(
    log: Annotated[str | None, typer.Argument(help="The new log; left out: only add and retire.")] = None,
    out: Annotated[Path, target("Weights to write.")] = Path("refreshed.safetensors"),
    weights: Weights = None,
    forgetting: Annotated[
        float, typer.Option(help="Share of the old posterior that stays, .99 to 1.")
    ] = 0.995,
    groups: Annotated[bool, typer.Option("--groups", help="Let the groups' vectors learn, too.")] = False,
    passes: Annotated[int, typer.Option(min=1, max=1000, help="Passes over the log.")] = 4,
    add: Annotated[Path | None, typer.Option(help="Table item,group of new items.")] = None,
    retire: Annotated[Path | None, typer.Option(help="Items that leave, an id a line.")] = None,
    items: Items = None,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Take a new log into the posterior of its items, with forgetting; add and retire items; look for drift.

    Example: recurra recsys refresh today.parquet --weights runs/a -o today.safetensors --forgetting 0.99
    """
    set_threads(threads)
    from core.files import read_bytes
    from recsys.drift import lines
    from recsys.predict import LARGEST_LIST
    from recsys.refresh import refresh as run
    from recsys.tables import read_new_items
    from recsys.trained import DEFAULT

    gone = [] if retire is None else read_bytes(retire, LARGEST_LIST).decode("utf-8", "replace").split()
    report = run(
        weights or DEFAULT,
        None if log is None else logs_of([log], items)[0],
        out,
        forgetting=forgetting,
        groups=groups,
        passes=passes,
        add=None if add is None else read_new_items(add),
        retire=gone,
        seed=seed,
    )
    told = [f"{out}: {report['items']} items, {report['added']} added, {report['retired']} retired"]
    if log is not None:
        before, after = report["loglik_before"], report["loglik_after"]
        told.append(
            f"{report['rows']} items of {report['users']} users moved; on them {before:.4f} -> {after:.4f}"
        )
        told += lines(report["drift"])
    emit(report, json_path, told)


@app.command()
def drift(
    log: Annotated[str, typer.Argument(help="A log.")],
    weights: Weights = None,
    items: Items = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 at an alarm.")] = False,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Compare a log's likelihood, day by day, with its own running interval; name days and groups that fall.

    Example: recurra recsys drift week.parquet --weights runs/a --strict
    """
    set_threads(threads)
    from recsys.drift import drift as run
    from recsys.drift import lines
    from recsys.evaluation import in_catalogue
    from recsys.model import load_model
    from recsys.trained import DEFAULT

    model = load_model(weights or DEFAULT)
    answer = run(model, in_catalogue(logs_of([log], items)[0], model.catalogue))
    emit(answer, json_path, lines(answer))
    if strict and answer["alarms"]:
        raise typer.Exit(1)


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(help="Parquet or CSV of slots, as `serve --log` writes it.")],
    weights: Weights = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="A column by name, such as user=uid.")
    ] = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Make every logged slate again from its row and the user's earlier ones; exit with 1 where one differs.

    Example: recurra recsys replay log/ --weights snapshots/current
    """
    set_threads(threads)
    from recsys.journal import replay as run
    from recsys.model import load_model
    from recsys.trained import DEFAULT

    answer = run(load_model(weights or DEFAULT), log, columns=mapped(columns))
    told = [f"{answer['same']} of {answer['slates']} slates are made again item by item"]
    told += [
        f"{one['user']} at {one['time']}: logged {one['logged']}, made {one['made']}"
        for one in answer["different"][:5]
    ]
    if answer["different"]:
        told.append(
            "(a slate is made again from the user's earlier rows; a history that came with a request is not "
            "among them)"
        )
    emit(answer, json_path, told)
    if answer["same"] != answer["slates"]:
        raise typer.Exit(1)


@app.command()
def export(
    out: OutFolder = Path("exported"),
    k: Annotated[int, typer.Option("--k", min=1, help="Items of an answer, inside the graph.")] = 20,
    weights: Weights = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write ONNX graphs of the state step and of scoring with top-k, and the item table (.npy, .parquet).

    Example: recurra recsys export --weights runs/a -o onnx/ --k 50
    """
    need("export", "onnx", "onnxscript", "onnxruntime")
    set_threads(threads)
    from recsys.export import export as run
    from recsys.model import load_model
    from recsys.trained import DEFAULT

    report = run(load_model(weights or DEFAULT), out, k)
    emit(report, json_path, [f"{out}: state.onnx, score.onnx, items.npy, items.parquet; "
                             f"largest difference to torch {report['difference']:.1e}"])  # fmt: skip
