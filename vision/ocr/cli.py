"""`recurra ocr`: read, train, evaluate, simulate."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import Config, Device, Quiet, Resume, Seed, Sets, Threads

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Read handwriting from lines, digit strings and pages.\n\n"
    "Example: recurra ocr read page.jpg --task page --format alto -o page.xml",
)

Task = Annotated[str, typer.Argument(help="lines or digits.")]


@app.command()
def train(
    task: Task,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Index CSVs or folders of pictures with .gt.txt; none: the generator."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("runs/ocr"),
    digits: Annotated[
        Path | None, typer.Option(help="Folder of idx files (MNIST) to compose digit strings from.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Plan the epochs for so many minutes and stop by the clock.")
    ] = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on files and generated examples.

    Example: recurra ocr train lines data/lines/index.csv --out runs/lines --set loop.epochs=40
    """
    from core.config import parse_set, read_toml, replace
    from core.terminal import device as device_of
    from core.terminal import set_threads
    from vision.ocr.config import defaults
    from vision.ocr.train import train as run

    set_threads(threads)
    settings = defaults(task)
    if config is not None:
        settings = replace(settings, read_toml(config))
    settings = replace(settings, parse_set([*(sets or []), f"seed={seed}"]))
    outcome = run(
        settings,
        out,
        data or [],
        digits=digits,
        minutes=minutes,
        device=device_of(device),
        resume=resume,
        quiet=quiet,
    )
    score = ", ".join(f"{name} {value:.4f}" for name, value in outcome.card.score.items())
    print(f"{outcome.weights}: {score} (epoch {outcome.epoch} of {outcome.epochs}, {outcome.seconds:.0f} s)")


@app.command()
def simulate(
    task: Task,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 100,
    digits: Annotated[Path | None, typer.Option(help="Folder of idx files to compose from.")] = None,
    part: Annotated[
        str, typer.Option("--from", help="Digits of the set to draw from: train, or test (the last 5,000).")
    ] = "test",
    shortest: Annotated[int, typer.Option(min=1, help="Fewest digits.")] = 2,
    longest: Annotated[int, typer.Option(min=1, max=60, help="Most digits.")] = 10,
    show: Annotated[bool, typer.Option("--show", help="Also write a sheet of examples.")] = False,
    seed: Seed = 0,
) -> None:
    """Write generated lines or digit strings with their index.

    Example: recurra ocr simulate digits -o strings --digits data/digits --count 500 --seed 1
    """
    from vision.ocr.simulate import write_set

    written = write_set(task, out, count, digits, part, shortest, longest, seed, show=show)
    print(f"{written}: {count} {task}")
