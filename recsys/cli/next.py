"""Next items: `train next`, `evaluate next`, and `contest`, block x loss at equal CPU time."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import Config, Device, Json, OutFolder, Quiet, Seed, Sets, Threads, emit, say, set_threads
from recsys.cli.shared import app, mapped, words


@app.command()
def contest(
    files: Annotated[list[str], typer.Argument(help="Logs of next items.")],
    out: OutFolder = Path("runs/next"),
    blocks: Annotated[
        str | None, typer.Option(help="Blocks with commas; default: all, and three units.")
    ] = None,
    losses: Annotated[
        str | None, typer.Option(help="Losses with commas; default: softmax,sampled,gbce.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="CPU seconds of training of each.")] = 30.0,
    groups: Annotated[
        list[str] | None, typer.Option("--items", help="FILE=TABLE: items of a log with their groups.")
    ] = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Train every block with every loss for the same time, and print the tables; goes on where it was.

    --set is for all, or for one block, loss or log by its name, as gru4rec.loop.lr=0.05 or shop.support=5.

    Example: recurra recsys contest beauty.txt ml.csv --seconds 60 --blocks esasrec,mamba2 --losses sampled
    """
    from core.config import over, parse_set, read_toml
    from core.terminal import device as found_device
    from recsys.sequences import contest as room

    set_threads(threads)
    answer = room.contest(
        files,
        out,
        words(blocks) if blocks else room.BLOCKS,
        words(losses) if losses else room.LOSSES,
        seconds=seconds,
        settings=over({} if config is None else read_toml(config), parse_set(sets or [])),
        groups=mapped(groups),
        seed=seed,
        device=found_device(device),
        progress=None if quiet else say,
    )
    emit(answer, json_path, room.lines(answer))


def learn_next(
    data: list[str],
    out: Path,
    config: Path | None,
    sets: list[str] | None,
    options: dict[str, Any],
    device: str | None,
    *,
    resume: bool,
    quiet: bool,
    json_path: str | None,
) -> None:
    """`train next FILE`: a next-item model."""
    from dataclasses import replace

    from core.config import resolve
    from core.errors import ConfigError
    from core.terminal import device as found_device
    from core.training import check_folder
    from recsys.config import NextRun
    from recsys.sequences.data import read_sequences
    from recsys.sequences.train import train_next

    settings = resolve(NextRun(), config, sets, seed=options["seed"])
    if options["split"] is not None:
        settings = replace(settings, split=options["split"])
    if len(data) != 1:
        raise ConfigError("train next wants one file of sequences.")
    check_folder(out, resume)
    place = found_device(device)
    outcome = train_next(settings, read_sequences(data[0]), out, resume=resume, quiet=quiet, device=place)
    result = {**outcome.as_dict(), "NDCG@10": abs(outcome.score)}
    told = f"NDCG@10 {abs(outcome.score):.4f} on items kept aside, {outcome.seconds:.0f} s"
    emit(result, json_path, [f"{outcome.weights}: best epoch {outcome.epoch} of {outcome.epochs}, {told}"])


def judge_next(
    files: list[str],
    weights: str | None,
    truth: Path | None,
    json_path: str | None,
    *,
    split: str | None,
    support: int,
    negatives: Path | None,
    items: Path | None,
    device: str | None,
    seed: int,
) -> None:
    """`evaluate next FILE`: full ranking of the items that follow, beside the baselines."""
    from core.errors import ConfigError
    from core.terminal import device as found_device
    from recsys.sequences.data import read_sequences
    from recsys.sequences.evaluate import evaluate_next, lines

    if len(files) != 1:
        raise ConfigError("evaluate next wants one file of sequences.")
    report = evaluate_next(
        read_sequences(files[0], items=items),
        weights,
        None if truth is None else read_sequences(truth),
        split=split or "auto",
        support=support,
        negatives=None if negatives is None else read_sequences(negatives),
        device=found_device(device),
        seed=seed,
    )
    if split == "last":
        say("--split last: clicks of other users after the tested ones are among what was learned from.")
    emit(report, json_path, lines(report))
