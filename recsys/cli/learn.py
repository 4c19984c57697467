"""`train`, `evaluate`, `protocol`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    Config,
    Device,
    Json,
    OutFolder,
    Quiet,
    Resume,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Threads,
    Weights,
    checked_folder,
    emit,
    say,
    say_all,
    set_threads,
)
from recsys.cli.shared import Items, Logs, Split, app, logs_of, mapped, words


@app.command()
def prepare(
    inputs: Logs,
    out: OutFolder,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="A column of a table by name, such as user=uid.")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(help='How tables write times: s, ms, us or ns, or a form such as "%d.%m.%Y %H:%M".'),
    ] = None,
    items: Items = None,
    pieces: Annotated[
        bool, typer.Option("--pieces", help="One part of a folder in memory at a time; large ones always.")
    ] = False,
    json_path: Json = None,
) -> None:
    """Check logs and write them as one folder in the slate layout, with ids and a report.

    Example: recurra recsys prepare clicks/ -o log/ --map user=uid --map time=ts --items groups.csv
    """
    from recsys.prepare import prepare as run

    report = run(inputs, out, items=items, columns=mapped(columns), pieces=pieces, time_format=time_format)
    say_all(report["remarks"])
    what = f"{report['users']} users, {report['steps']} steps, {report['items']} items"
    emit(report, json_path, [f"{out}: {what} in {report['groups']} groups"])


@app.command()
def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="`slates` or `next`, then a log; the simulator when left out."),
    ] = None,
    out: RunFolder = Path("runs/recsys"),
    model: Annotated[
        str,
        typer.Option(help="network, filter, pair of both (ours), or paper: the published model in stages."),
    ] = "network",
    start: Annotated[str | None, typer.Option(help="Network whose items the filter starts from.")] = None,
    items: Items = None,
    split: Split = None,
    device: Device = None,
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    resume: Resume = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a slate model on a log, or on the simulator.

    Example: recurra recsys train slates.npz --out runs/a --set loop.epochs=10
    """
    from core.config import resolve
    from core.errors import ConfigError
    from core.terminal import device as found_device
    from core.training import check_folder

    set_threads(threads)
    from recsys.config import FilterRun, PairRun, PaperRun, SlateConfig
    from recsys.train import train as run

    task = data[0] if data and data[0] in ("slates", "next") else None
    data = data[1:] if data and task else data
    if task == "next":
        from recsys.cli.next import learn_next

        options = {"seed": seed, "split": split}
        learn_next(
            data or [], out, config, sets, options, device, resume=resume, quiet=quiet, json_path=json_path
        )
        return
    defaults: dict[str, Any] = {
        "network": SlateConfig(),
        "filter": FilterRun(),
        "pair": PairRun(),
        "paper": PaperRun(),
    }
    if model not in defaults:
        raise ConfigError(f"--model is {' or '.join(defaults)}, got {model!r}.")
    if (model == "filter") != (start is not None):
        raise ConfigError("--model filter and --start NETWORK belong together.")
    settings = resolve(defaults[model], config, sets, seed=seed)
    place = None if device is None else found_device(device)
    if data is not None and len(data) > 1:
        raise ConfigError("a slate model learns from one log; join several with `recurra recsys prepare`.")
    check_folder(out, resume)
    if data:
        slates = logs_of(data, items)[0]
    else:
        from recsys.simulator import World, simulate_log

        slates = simulate_log(World(), users=2000, seed=settings.seed).slates
    if split == "last":
        say("--split last: steps of other users after the tested ones are among what is learned from.")
    outcome = run(
        slates,
        out,
        settings,
        start=start,
        split=split or "auto",
        device=place,
        resume=resume,
        quiet=quiet,
    )
    emit(
        outcome.as_dict(),
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
    truth: Annotated[Path | None, typer.Option(help="next: file of withheld items, user and item.")] = None,
    negatives: Annotated[
        Path | None, typer.Option(help="next: rank among these of each user alone; named so in the report.")
    ] = None,
    split: Split = None,
    support: Annotated[
        int, typer.Option(min=1, help="next: clicks that an item needs before the last day to be asked for.")
    ] = 1,
    device: Annotated[str | None, typer.Option(help="next: cpu, cuda or auto; slates are the CPU's.")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score a slate model on the users of logs that it has not seen, beside all baselines.

    Without --weights it is recsys-pair, the network and the filter asked together.

    Example: recurra recsys evaluate slates.npz --weights recsys-gru --json report.json
    """
    from core.errors import ConfigError

    if kind not in (None, "search", "rec"):
        raise ConfigError(f"--kind is search or rec, got {kind!r}.")
    set_threads(threads)
    if files[0] in ("next", "slates"):
        task, files = files[0], files[1:]
        if task == "next":
            from recsys.cli.next import judge_next

            asked: dict[str, Any] = {"split": split, "support": support, "negatives": negatives}
            judge_next(files, weights, truth, json_path, items=items, device=device, seed=seed, **asked)
            return
        if not files:
            raise ConfigError("give a log to evaluate.")
    if device not in (None, "cpu", "auto"):
        raise ConfigError(f"slates are scored on the CPU; --device {device} is for `evaluate next`.")
    from recsys.evaluation import evaluate as run
    from recsys.evaluation import lines
    from recsys.model import load_model
    from recsys.predict import linear_beside
    from recsys.trained import BEST

    model = load_model(weights or BEST)
    for file in files:
        if Path(file).name in model.card.data:
            say(f"{file}: these weights have learned from a log of this name; see `recurra recsys protocol`.")
    report = run(model, logs_of(files, items), beside=linear_beside(model), k=k, kind=kind, seed=seed)
    emit(report, json_path, lines(report))


@app.command()
def protocol(
    data: Annotated[str, typer.Argument(help="A slate log.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", callback=checked_folder, help="Folder of the folds' runs.")
    ] = Path("runs/folds"),
    models: Annotated[
        str, typer.Option(help="Models with commas (network, filter, flat, linear, gru, ...).")
    ] = ("network,filter,flat,linear,gru"),
    parts: Annotated[str, typer.Option("--folds", help="Which of the five, with commas.")] = "0,1,2,3,4",
    quick: Annotated[float, typer.Option(min=0.01, max=10, help="Share of a full training's passes.")] = 1.0,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="CPU seconds that every model learns for.")
    ] = None,
    items: Items = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Five-fold figures: every user scored by weights that never saw them; goes on where it was.

    Example: recurra recsys protocol slates.npz --out runs/folds --models network,linear
    """
    from core.config import over, parse_set, read_toml
    from core.errors import ConfigError
    from core.terminal import device as found_device

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
    answer = run(
        slates,
        out,
        words(models),
        parts=numbers,
        quick=quick,
        seconds=seconds,
        settings=over({} if config is None else read_toml(config), parse_set(sets or [])),
        seed=seed,
        device=None if device is None else found_device(device),
        progress=None if quiet else say,
    )
    emit(answer, json_path, lines(answer))
