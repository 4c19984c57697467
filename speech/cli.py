"""`recurra speech`: train."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import Config, Device, Json, Quiet, Resume, Sets, Threads, device, emit, set_threads

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Separate talkers and remove noise, from files or live.\n\n"
    "Example: recurra speech enhance noisy.wav -o clean.wav",
)
Task = Annotated[str, typer.Argument(help="enhance or separate.")]


@app.callback()
def speech() -> None:
    """Separate talkers and remove noise."""


@app.command()
def train(
    task: Task,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Index tables, or folders with clean/ and noise/ inside. Generated voices and noises when "
            "left out. The first is drawn at least as often as all others together."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/speech"),
    start: Annotated[Path | None, typer.Option("--start", help="Weights or run to go on from.")] = None,
    config: Config = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Plan as many steps as fit into this time.")
    ] = None,
    resume: Resume = False,
    threads: Threads = None,
    device_name: Device = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a network on mixtures that are made anew for every step.

    Example: recurra speech train enhance speech_index.csv noise_index.csv --out runs/a --minutes 10
    """
    from core.config import resolve
    from core.errors import ConfigError
    from speech.config import RUNS

    if task not in RUNS:
        raise ConfigError(f"a task is one of {', '.join(RUNS)}; got {task!r}.")
    words = [*(sets or [])]
    words += [f"seed={seed}"] if seed is not None else []
    words += [f"minutes={minutes}"] if minutes is not None else []
    settings = resolve(RUNS[task](), config, words)
    set_threads(threads)
    place = device(device_name)

    from core.training import reuse_memory
    from speech.train import train as run

    reuse_memory()
    outcome = run(task, settings, out, data or [], device=str(place), start=start, resume=resume, quiet=quiet)
    result = {
        "run": str(out),
        "weights": str(outcome.weights),
        "score": outcome.score,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "seconds": outcome.seconds,
        "stopped": outcome.stopped,
        "figures": outcome.card.score,
    }
    lines = [
        f"{out}: {outcome.steps} steps in {outcome.seconds:.0f} s, stopped by {outcome.stopped}",
        *(f"  {name:<12} {value:.4g}" for name, value in outcome.card.score.items()),
    ]
    emit(result, json_path, lines)
