"""Training, and what is worked out for finished weights."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import (
    Config,
    Device,
    Json,
    Quiet,
    Resume,
    RunFolder,
    Sets,
    SetSeed,
    Start,
    Threads,
    emit,
    say_all,
    set_threads,
    target,
)
from core.terminal import device as named_device
from vision.pointcloud.cli.app import app, begin


@app.command()
def train(
    data: Annotated[
        list[str] | None, typer.Argument(help="Folders of labelled scans; generated scans if left out.")
    ] = None,
    out: RunFolder = Path("runs/pointcloud"),
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    device: Device = None,
    start: Start = None,
    overfit: Annotated[
        int | None, typer.Option("--overfit", min=1, help="Learn N of the scans by heart: a proof of labels.")
    ] = None,
    resume: Resume = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a detector on scans that are generated meanwhile, or on labelled scans of your own.

    Own scans: KITTI, Argoverse 2, nuScenes JSON, or any cloud with a .labels.csv beside it. Every fifth scan
    chooses the best epoch. --overfit 2 learns two scans by heart first, which proves that labels and points
    fit together.

    Example: recurra pointcloud train scans/ --start pointcloud-tiny --out runs/own --set loop.lr=5e-4
    """
    import torch

    from core.config import resolve
    from core.training import reuse_memory
    from core.weights import load
    from vision.pointcloud.config import TrainConfig
    from vision.pointcloud.own import find_own, left_out
    from vision.pointcloud.train import fitting
    from vision.pointcloud.train import train as run

    set_threads(threads)
    reuse_memory()
    torch.set_float32_matmul_precision("high")
    settings = resolve(TrainConfig(), config, sets, seed=seed)
    if data and not resume:
        say_all(left_out(find_own(data)))
    if start is not None and not resume:
        say_all(fitting(settings, start))
    outcome = run(
        settings,
        out,
        device=named_device(device),
        data=data or (),
        overfit=overfit,
        start=start,
        resume=resume,
        quiet=quiet,
    )
    extra = load(outcome.weights)[1].extra
    lines = [f"{name}: {value:.2f}" for name, value in extra.get("by_heart", {}).items() if value == value]
    emit({**outcome.as_dict(), **{"by_heart": extra.get("by_heart")}}, json_path, [*outcome.lines(), *lines])


@app.command()
def calibrate(
    weights: Annotated[str, typer.Argument(help="Bundled weights, a file or a run folder.")],
    out: Annotated[Path, target("Where the same weights go, with a new card.")],
    precision: Annotated[
        float,
        typer.Option("--precision", min=0.05, max=0.999, help="Share of boxes of cars that is right."),
    ] = 0.9,
    scans: Annotated[int, typer.Option("--scans", min=1, help="Generated scans, made harder.")] = 96,
    sensor: Annotated[str, typer.Option("--sensor", help="Of the scans.")] = "mixture",
    device: Device = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=9, help="Of the generated scans.")] = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Work out score thresholds and chances for weights anew, on generated scans alone.

    The threshold of cars is the lowest score at which --precision of their boxes are right in generated scans
    of every sensor that were thinned and made noisy; people and cyclists have the score of the best F1 there.
    No recording is looked at.

    Example: recurra pointcloud calibrate runs/a -o a.safetensors --precision 0.9
    """
    from dataclasses import replace

    from core.weights import load_network, save
    from vision.pointcloud.calibrate import FIRST, calibrated
    from vision.pointcloud.predict import network_of
    from vision.pointcloud.write import SCANS_APART

    begin(threads, seed)
    loaded = load_network(weights, "pointcloud", network_of, device=named_device(device))
    found = calibrated(loaded.network, scans, sensor, precision, FIRST + SCANS_APART * seed)
    card = replace(loaded.card, extra={**loaded.card.extra, **found})
    save(out, {name: part.cpu() for name, part in loaded.network.state_dict().items()}, card)
    lines = [f"{name}: {value}" for name, value in found.items()]
    emit({"weights": str(out), **found}, json_path, [*lines, str(out)])
