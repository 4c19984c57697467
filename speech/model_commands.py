"""`recurra speech`: train, fine-tune, import, export, models."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    Config,
    Device,
    Json,
    OutFile,
    Quiet,
    Resume,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Start,
    Threads,
    Weights,
    device,
    emit,
    say,
    set_threads,
)

Task = Annotated[str, typer.Argument(help="enhance, separate or voice.")]
Corpora = Annotated[
    list[str] | None,
    typer.Argument(
        help="Index tables, folders with clean/ and noise/ inside, or public data sets as they come. "
        "Generated voices and noises when left out. The first is drawn at least as often as all others "
        "together."
    ),
]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Plan as many steps as fit into this time.")]
FINE_LR = 3e-4


def train(
    task: Task,
    data: Corpora = None,
    out: RunFolder = Path("runs/speech"),
    start: Start = None,
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    minutes: Minutes = None,
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
    from core.training import reuse_memory
    from speech.config import RUNS
    from speech.train import check_task
    from speech.train import train as run

    check_task(task)
    settings = resolve(RUNS[task](), config, sets, seed=seed, minutes=minutes)
    set_threads(threads)
    place = device(device_name)
    reuse_memory()
    outcome = run(task, settings, out, data or [], device=str(place), start=start, resume=resume, quiet=quiet)
    emit(outcome.as_dict(), json_path, outcome.lines())


def fine_tune(
    task: Task,
    weights: Annotated[str, typer.Argument(help="Bundled name, weights file or run to go on from.")],
    data: Corpora = None,
    out: RunFolder = Path("runs/speech-fine"),
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    minutes: Minutes = None,
    resume: Resume = False,
    threads: Threads = None,
    device_name: Device = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Go on training weights of ours, of their own sizes, at a fifth of the rate.

    Example: recurra speech fine-tune enhance speech-enhance calls/ --out runs/calls --minutes 5
    """
    from dataclasses import replace

    from core.config import resolve
    from core.training import reuse_memory
    from speech.config import RUNS
    from speech.model import load_model, sizes_of
    from speech.train import check_task
    from speech.train import train as run

    check_task(task)
    base = RUNS[task]()
    own = sizes_of(load_model(weights, task))
    defaults = replace(base, **own, loop=replace(base.loop, lr=FINE_LR))  # pyright: ignore
    settings = resolve(defaults, config, sets, seed=seed, minutes=minutes)
    set_threads(threads)
    place = device(device_name)
    reuse_memory()
    outcome = run(
        task, settings, out, data or [], device=str(place), start=weights, resume=resume, quiet=quiet
    )
    emit(outcome.as_dict(), json_path, outcome.lines())


def import_(
    files: Annotated[list[Path], typer.Argument(help="Published checkpoint: .tar, .pth, .safetensors.")],
    layout: Annotated[str, typer.Option("--layout", help="Whose tensors they are: gtcrn, ...")],
    out: OutFile,
    sets: Sets = None,
    rate: Annotated[
        int | None, typer.Option("--rate", help="Of the weights, Hz, where the layout has several.")
    ] = None,
    json_path: Json = None,
) -> None:
    """Read a published checkpoint into weights of ours, every tensor accounted for.

    Example: recurra speech import model_trained_on_dns3.tar --layout gtcrn -o gtcrn.safetensors
    """
    from speech.layouts import import_files

    card = import_files(files, layout, sets or [], out, rate=rate)
    result = {"file": str(out), "layout": layout, "network": card.unit, "data": card.data}
    emit(result, json_path, [f"{out}: {card.unit}, {card.data}"])


def export(
    out: OutFile,
    stream: Annotated[
        bool, typer.Option("--stream", help="One frame at a time, the state as inputs and outputs.")
    ] = False,
    task: Annotated[str, typer.Option("--task", help="enhance or separate.")] = "enhance",
    seconds: Annotated[
        float, typer.Option("--seconds", help="What a network takes at once that needs the whole recording.")
    ] = 6.0,
    weights: Weights = None,
    threads: Threads = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Write a network as ONNX and check it against torch; how to make frames stands in its metadata.

    Example: recurra speech export -o enhance.onnx --stream
    """
    import torch

    from speech.export import export_onnx
    from speech.model import load_model

    set_threads(threads)
    with torch.random.fork_rng(devices=[]):  # of the waves that the graph is checked with
        torch.manual_seed(seed)
        worst = export_onnx(load_model(weights, task), out, stream=stream, seconds=seconds)
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference": worst}
    emit(result, json_path, [f"{out}: {size / 1e6:.2f} MB, largest difference from torch {worst:.2g}"])


def models(json_path: Json = None) -> None:
    """List the bundled weights of speech: score, data, terms, and where they were trained.

    Example: recurra speech models
    """
    from core.bundled import bundled
    from core.catalogue import model_lines
    from speech.model import DEFAULTS

    rows = [row for row in bundled() if row["task"] in DEFAULTS]
    emit(rows, json_path, model_lines(rows))


def units(
    data: Corpora = None,
    out: RunFolder = Path("runs/units"),
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of training, the same for each unit.")] = 1000,
    names: Annotated[str | None, typer.Option("--units", help="Separated by commas.")] = None,
    sets: Sets = None,
    seed: SetSeed = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Stop after this time; --resume goes on.")
    ] = None,
    resume: Resume = False,
    threads: Threads = 1,
    device_name: Device = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train the enhancement network with several units alike, and print what each reached and costs.

    Example: recurra speech units speech_index.csv noise_index.csv --steps 1000 --units gru,lstm,hgrn
    """
    from core.config import resolve
    from core.report import number, table
    from core.training import reuse_memory
    from speech.config import EnhanceRun
    from speech.unit_table import COLUMNS, UNITS, compare

    chosen = [name.strip() for name in names.split(",")] if names else UNITS
    settings = resolve(EnhanceRun(), None, sets, seed=seed)
    set_threads(threads)
    place = str(device(device_name))
    reuse_memory()
    words: dict[str, Any] = {"device": place, "resume": resume, "minutes": minutes, "quiet": quiet}
    rows = []
    for row in compare(chosen, settings, data or [], steps, out, **words):
        rows.append(row)
        if not quiet:
            say(f"{row['unit']}: {row.get('error') or number(row['si_sdr'], 2) + ' dB'}")
    body = []
    for row in rows:
        figures = [number(row.get(key), 0 if key == "parameters" else 3) for key in COLUMNS]
        told = [row["error"], *[""] * (len(COLUMNS) - 1)] if "error" in row else figures
        body.append([row["unit"], *told])
    emit({"steps": steps, "rows": rows}, json_path, table(["unit", *COLUMNS.values()], body))
