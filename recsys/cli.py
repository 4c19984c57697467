"""`recurra recsys`: train, recommend, similar, evaluate, simulate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    Config,
    Json,
    Quiet,
    Resume,
    Seed,
    Sets,
    Threads,
    Weights,
    emit,
    say_all,
    set_threads,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Slates that learn: user models, Thompson sampling, simulation, next-item models.\n\n"
    "Example: recurra recsys recommend --history clicks.json --policy inslate --k 10",
)

Logs = Annotated[
    list[str], typer.Argument(help="Logs: .npz or folder in the slate layout, or tables of slots.")
]
Items = Annotated[
    Path | None, typer.Option("--items", help="Group table (.npz, or item,group); default: beside the log.")
]


def logs_of(files: list[str], items: Path | None) -> list[Any]:
    """Logs by name; their remarks go to stderr."""
    from recsys.data import read_slates

    logs = [read_slates(file, items) for file in files]
    for log in logs:
        say_all(log.remarks)
    return logs


@app.command()
def train(
    data: Annotated[
        list[str] | None, typer.Argument(help="A slate log; the simulator when left out.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder.")] = Path("runs/recsys"),
    model: Annotated[
        str, typer.Option(help="network, filter (both ours), or paper: the published model in stages.")
    ] = "network",
    start: Annotated[str | None, typer.Option(help="Network whose items the filter starts from.")] = None,
    items: Items = None,
    config: Config = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    resume: Resume = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a slate model on a log, or on the simulator.

    Example: recurra recsys train slates.npz --out runs/a --set loop.epochs=10
    """
    from dataclasses import replace

    from core.config import resolve
    from core.errors import ConfigError

    set_threads(threads)
    from recsys.config import FilterRun, PaperRun, SlateConfig
    from recsys.train import train as run

    defaults: dict[str, Any] = {"network": SlateConfig(), "filter": FilterRun(), "paper": PaperRun()}
    if model not in defaults:
        raise ConfigError(f"--model is {' or '.join(defaults)}, got {model!r}.")
    if (model == "filter") != (start is not None):
        raise ConfigError("--model filter and --start NETWORK belong together.")
    settings = resolve(defaults[model], config, sets or [])
    if seed is not None:
        settings = replace(settings, seed=seed)
    if data is not None and len(data) > 1:
        raise ConfigError("a slate model learns from one log; join several with `recurra recsys prepare`.")
    if data:
        slates = logs_of(data, items)[0]
    else:
        from recsys.simulator import World, simulate_log

        slates = simulate_log(World(), users=2000, seed=settings.seed).slates
    outcome = run(slates, out, settings, start=start, resume=resume, quiet=quiet)
    result = {
        "weights": str(outcome.weights),
        "score": outcome.score,
        "epoch": outcome.epoch,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "stopped": outcome.stopped,
    }
    emit(
        result,
        json_path,
        [
            f"{outcome.weights}: best epoch {outcome.epoch} of {outcome.epochs}, {-outcome.score:.4f} log "
            f"likelihood per step on users kept aside, {outcome.seconds:.0f} s ({outcome.stopped})"
        ],
    )


@app.command()
def evaluate(
    files: Logs,
    items: Items = None,
    weights: Weights = None,
    k: Annotated[int, typer.Option(min=1, help="Items that are recommended.")] = 20,
    kind: Annotated[str | None, typer.Option(help="Likelihood of search or rec slates only.")] = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score a slate model on the users of logs that it has not seen, beside all baselines.

    Example: recurra recsys evaluate slates.npz --weights recsys-gru --json report.json
    """
    from core.errors import ConfigError

    if kind not in (None, "search", "rec"):
        raise ConfigError(f"--kind is search or rec, got {kind!r}.")
    set_threads(threads)
    from recsys.evaluate import evaluate as run
    from recsys.evaluate import lines
    from recsys.model import DEFAULT, load_model
    from recsys.predict import linear_beside

    model = load_model(weights or DEFAULT)
    report = run(model, logs_of(files, items), beside=linear_beside(model), k=k, kind=kind)
    emit(report, json_path, lines(report))


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
    from recsys.model import DEFAULT, load_model
    from recsys.predict import Filter, read_ids
    from recsys.predict import recommend as run

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
    result = [answer.as_dict() for answer in answers]
    emit({"n": len(result), "seen": seen, "slates": result}, json_path, lines)


@app.command()
def similar(
    wanted: Annotated[list[str], typer.Argument(help="Item ids.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many.")] = 10,
    deny: Annotated[Path | None, typer.Option(help="Never these, an id a line.")] = None,
    weights: Weights = None,
    json_path: Json = None,
) -> None:
    """The nearest items.

    Example: recurra recsys similar 1318 --k 5
    """
    from recsys.model import DEFAULT, load_model
    from recsys.predict import Filter, read_ids
    from recsys.predict import similar as run

    model = load_model(weights or DEFAULT)
    keep = Filter(deny=read_ids(deny, model.catalogue) if deny is not None else frozenset())
    found = {item: run(model, item, k, keep) for item in wanted}
    lines = [f"{item}: {' '.join(str(row['item']) for row in rows)}" for item, rows in found.items()]
    emit({"items": found}, json_path, lines)


simulation = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Write a generated log, or play policies against each other.\n\n"
    "Example: recurra recsys simulate -o market/ --users 2000\n\n"
    "Example: recurra recsys simulate compare --policies ts,inslate",
)
app.add_typer(simulation, name="simulate")


@simulation.callback()
def simulate(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write.")] = None,
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many users.")] = 2000,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps of each.")] = 20,
    sets: Sets = None,
    config: Config = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Write a generated log in the slate layout, with true click probabilities and propensities."""
    if context.invoked_subcommand is not None:
        return
    from core.config import resolve
    from core.errors import ConfigError
    from recsys.simulator import World, simulate_log, write_log

    if out is None:
        raise ConfigError("give a folder to write: recurra recsys simulate -o market/.")
    world = resolve(World(), config, sets or [])
    log = simulate_log(world, users, steps, seed)
    written = write_log(log, out)
    used = log.slates.lengths > 0
    result = {
        "files": [str(path) for path in written],
        "users": users,
        "steps": int(used.sum()),
        "no_click": float((log.slates.click_idx == 0)[used].mean()),
        "mean_length": float(log.slates.lengths[used].mean()),
    }
    emit(
        result,
        json_path,
        [
            f"{out}: {users} users, {result['steps']} steps, {100 * result['no_click']:.1f} % without click, "
            f"slates of {result['mean_length']:.1f} slots"
        ],
    )


@simulation.command()
def compare(
    policies: Annotated[str, typer.Option(help="Policies, with commas.")] = "ts,inslate,eps",
    temperatures: Annotated[str, typer.Option(help="Factors of the spread, with commas.")] = "0.1,0.3,0.5,1",
    worlds: Annotated[str, typer.Option(help="dense, sparse or both.")] = "dense,sparse",
    positions: Annotated[str, typer.Option(help="known, estimated or both.")] = "known,estimated",
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Paired seeds.")] = 10,
    rounds: Annotated[int, typer.Option(min=2, max=100_000, help="Rounds of each game.")] = 150,
    plot: Annotated[Path | None, typer.Option(help="PNG of the regret curves.")] = None,
    quiet: Quiet = False,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Play policies against greedy in two worlds, with paired seeds and intervals.

    Example: recurra recsys simulate compare --policies inslate --temperatures 0.3,1 --positions known
    """
    from core.errors import ConfigError
    from core.terminal import say
    from recsys.compare import compare as run
    from recsys.compare import lines

    try:
        values = [float(word) for word in temperatures.split(",") if word.strip()]
    except ValueError as error:
        raise ConfigError(f"--temperatures are numbers with commas, got {temperatures!r}.") from error
    answer = run(
        words(worlds),
        words(policies),
        values,
        seeds,
        rounds=rounds,
        positions=words(positions),
        seed=seed,
        progress=None if quiet else say,
    )
    if plot is not None:
        from recsys.plots import regret_picture

        regret_picture(answer, plot)
    emit(answer, json_path, lines(answer))


def words(text: str) -> list[str]:
    """Words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


@app.command()
def protocol(
    data: Annotated[str, typer.Argument(help="A slate log.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the folds' runs.")] = Path("runs/folds"),
    models: Annotated[
        str, typer.Option(help="Models with commas (network, filter, flat, linear, gru, ...).")
    ] = ("network,filter,flat,linear,gru"),
    parts: Annotated[str, typer.Option("--folds", help="Which of the five, with commas.")] = "0,1,2,3,4",
    quick: Annotated[float, typer.Option(min=0.01, max=10, help="Share of a full training's passes.")] = 1.0,
    items: Items = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Five-fold figures: every user scored by weights that never saw them; goes on where it was.

    Example: recurra recsys protocol slates.npz --out runs/folds --models network,linear
    """
    from core.errors import ConfigError
    from core.terminal import say

    set_threads(threads)
    from recsys.protocol import FOLDS, lines
    from recsys.protocol import protocol as run

    try:
        numbers = sorted({int(word) for word in words(parts)})
    except ValueError as error:
        raise ConfigError(f"--folds are numbers with commas, got {parts!r}.") from error
    if any(not 0 <= number < FOLDS for number in numbers):
        raise ConfigError(f"--folds lie between 0 and {FOLDS - 1}, got {parts!r}.")
    slates = logs_of([data], items)[0]
    answer = run(slates, out, words(models), parts=numbers, quick=quick, progress=None if quiet else say)
    emit(answer, json_path, lines(answer))


@app.command()
def ope(
    log: Annotated[Path, typer.Argument(help="CSV or Parquet with item, position, click and propensity.")],
    policy: Annotated[str, typer.Option(help="random, popularity, or a table FILE.npz:NAME.")] = "random",
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="A column by name, such as propensity=p.")
    ] = None,
    clip: Annotated[float | None, typer.Option(min=0, help="Largest weight of IPS and DR.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if it cannot be trusted.")] = False,
    json_path: Json = None,
) -> None:
    """Estimate from a log what another policy would have earned.

    Example: recurra recsys ope log.csv --policy policies.npz:bts
    """
    from core.errors import ConfigError
    from recsys.ope import estimate, lines, read_log

    pairs = [word.partition("=") for word in columns or []]
    if not all(name and equals and column for name, equals, column in pairs):
        raise ConfigError("--map wants NAME=COLUMN, such as propensity=p.")
    answer = estimate(read_log(log, {name: column for name, _, column in pairs}), policy, clip)
    emit(answer, json_path, lines(answer))
    if strict and not answer["trust"]:
        raise typer.Exit(1)
