"""`simulate`, `simulate compare`, `ope`."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import (
    Config,
    Json,
    Quiet,
    Seed,
    Sets,
    Threads,
    checked_folder,
    emit,
    say,
    say_all,
    set_threads,
    target,
)
from recsys.cli.shared import app, mapped, words

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
    out: Annotated[
        Path | None, typer.Option("-o", "--out", callback=checked_folder, help="Folder to write.")
    ] = None,
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
    horizons: Annotated[str, typer.Option(help="Rounds after which differences are told, too.")] = "",
    plot: Annotated[Path | None, target("PNG of the regret curves.", "--plot")] = None,
    quiet: Quiet = False,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Play policies against greedy in two worlds, with paired seeds and intervals.

    Example: recurra recsys simulate compare --policies inslate --temperatures 0.3,1 --positions known
    """
    from core.errors import ConfigError
    from recsys.compare import compare as run
    from recsys.compare import lines

    set_threads(threads)
    try:
        values = [float(word) for word in temperatures.split(",") if word.strip()]
    except ValueError as error:
        raise ConfigError(f"--temperatures are numbers with commas, got {temperatures!r}.") from error
    if not all(word.isdigit() for word in words(horizons)):
        raise ConfigError(f"--horizons are whole numbers with commas, got {horizons!r}.")
    answer = run(
        words(worlds),
        words(policies),
        values,
        seeds,
        rounds=rounds,
        positions=words(positions),
        horizons=[int(word) for word in words(horizons)],
        seed=seed,
        progress=None if quiet else say,
    )
    if plot is not None:
        from recsys.plots import regret_picture

        regret_picture(answer, plot)
    emit(answer, json_path, lines(answer))


@app.command()
def ope(
    log: Annotated[Path, typer.Argument(help="CSV or Parquet with item, position, click and propensity.")],
    policy: Annotated[
        str,
        typer.Option(help="random, popularity, a table FILE.npz:NAME; with --slates random or column:NAME."),
    ] = "random",
    slates: Annotated[
        bool, typer.Option("--slates", help="Whole slates (user, time, slot): SIPS, RIPS, IIPS, cascade-DR.")
    ] = False,
    items: Annotated[int | None, typer.Option(min=1, help="--slates: items of the catalogue.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="A column by name, such as propensity=p.")
    ] = None,
    clip: Annotated[float | None, typer.Option(min=0, help="Largest weight of IPS and DR.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if it cannot be trusted.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Estimate from a log what another policy would have earned.

    Example: recurra recsys ope log.csv --policy policies.npz:bts
    """
    set_threads(threads)
    from recsys import ope_actions, ope_slates
    from recsys.off_policy import ope as run

    answer = run(log, policy, slates=slates, items=items, columns=mapped(columns), clip=clip, seed=seed)
    say_all(answer.get("remarks", ()))
    emit(answer, json_path, (ope_slates if slates else ope_actions).lines(answer))
    if strict and not answer["trust"]:
        raise typer.Exit(1)
