"""Training."""

from pathlib import Path

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
    set_threads,
)
from core.terminal import device as named_device
from vision.pointcloud.cli.app import app


@app.command()
def train(
    out: RunFolder = Path("runs/pointcloud"),
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    device: Device = None,
    start: Start = None,
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
    settings = resolve(TrainConfig(), config, sets, seed=seed)
    outcome = run(settings, out, device=named_device(device), start=start, resume=resume, quiet=quiet)
    emit(outcome.as_dict(), json_path, outcome.lines())
