"""`recurra pointcloud`: detect, simulate, train, evaluate, info."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import Config, Device, Json, Quiet, Resume, Seed, Sets, Threads, emit, set_threads
from core.terminal import device as named_device

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find cars, people and cyclists in LiDAR scans of any sensor.\n\n"
    "Example: recurra pointcloud detect scan.bin --json boxes.json",
)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/pointcloud"),
    config: Config = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    device: Device = None,
    start: Annotated[
        str | None, typer.Option("--start", help="Weights to go on from: a name, a file or a run.")
    ] = None,
    resume: Resume = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a detector on scans that are generated meanwhile.

    Example: recurra pointcloud train --out runs/a --set preset=tiny --set model.operator=gru --set minutes=20
    """
    import torch

    from core.config import resolve
    from core.training import reuse_memory
    from vision.pointcloud.config import TrainConfig
    from vision.pointcloud.train import train as run

    set_threads(threads)
    reuse_memory()
    torch.set_float32_matmul_precision("high")
    words = [*(sets or []), *([f"seed={seed}"] if seed is not None else [])]
    settings = resolve(TrainConfig(), config, words)
    outcome = run(settings, out, device=named_device(device), start=start, resume=resume, quiet=quiet)
    result = {
        "run": str(out),
        "weights": str(outcome.weights),
        "score": outcome.score,
        "epoch": outcome.epoch,
        "steps": outcome.steps,
        "seconds": outcome.seconds,
        "stopped": outcome.stopped,
    }
    emit(result, json_path, [str(outcome.weights), f"best in epoch {outcome.epoch}: {outcome.score:.5g}"])


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    scans: Annotated[int, typer.Option("--scans", min=1, max=100_000, help="How many scans.")] = 10,
    sensor: Annotated[
        str, typer.Option("--sensor", help="hdl64, hdl32, vlp16, av2, rings128, random, mixture, or a .toml.")
    ] = "hdl64",
    layout: Annotated[str, typer.Option("--as", help="kitti or labels.")] = "labels",
    seed: Seed = 0,
) -> None:
    """Write labelled scans of generated streets; the same bytes for a seed.

    Example: recurra pointcloud simulate -o scans --scans 20 --sensor vlp16 --as kitti
    """
    from vision.pointcloud.write import write_scans

    written = write_scans(out, scans, sensor, layout, seed)
    print(f"{out}: {written} scans")
