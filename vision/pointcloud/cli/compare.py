"""Figures: detectors beside each other, operators beside each other."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import DataError
from core.terminal import (
    Device,
    Json,
    RunFolder,
    Seed,
    Threads,
    Weights,
    emit,
    say,
    set_threads,
)
from core.terminal import device as named_device
from vision.pointcloud.cli.app import app, begin


@app.command()
def evaluate(
    folder: Annotated[
        str, typer.Argument(help="Folder of labelled scans; a number of scans for --format synthetic.")
    ],
    format: Annotated[
        str, typer.Option("--format", help="kitti, av2, nuscenes, labels, synthetic, sensors or drives.")
    ] = "kitti",
    weights: Weights = None,
    sensor: Annotated[str, typer.Option("--sensor", help="Of synthetic scans.")] = "hdl64",
    sweeps: Annotated[int, typer.Option("--sweeps", min=1, help="Of a drive, for --format drives.")] = 10,
    front: Annotated[bool, typer.Option("--front", help="Synthetic scans cut to a camera's view.")] = False,
    disturb: Annotated[
        str | None, typer.Option("--disturb", help="Scans and labels moved: turn=DEG,tilt=DEG,thin.")
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines/--alone", help="Score the baselines too.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="As detect --quick, both networks.")] = False,
    device: Device = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of generated scans; 0: those of all tables.")
    ] = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score the detector beside both baselines, by one protocol for every folder.

    --format sensors scores cars in so many generated scans of each of six sensors, --format drives what a
    memory over sweeps finds of hidden cars in so many generated drives, or weights of merged sweeps beside
    the usual ones on the last sweep.

    Example: recurra pointcloud evaluate kitti/ --format kitti --json report.json
    """
    from functools import partial

    from core.errors import ConfigError, WeightsError
    from vision.pointcloud.disturb import disturbed, parsed
    from vision.pointcloud.evaluation import evaluate as score
    from vision.pointcloud.evaluation import hand_made_finder, network_finder, sensors_report, table
    from vision.pointcloud.examples import FORMATS, find_examples, generated, read_example
    from vision.pointcloud.predict import BASELINE, Detector
    from vision.pointcloud.synth.sensors import NAMES as SENSORS
    from vision.pointcloud.write import SCANS_APART

    if format not in (*FORMATS, "sensors", "drives"):
        raise ConfigError(f"no format {format!r}; there are {', '.join(FORMATS)}, sensors, drives.")
    begin(threads, seed)
    where, first = named_device(device), SCANS_APART * seed
    detector = Detector.open(weights, where)
    if quick:
        detector.hurry()
    moved = None if disturb is None else partial(disturbed, how=parsed(disturb))
    if format in ("synthetic", "sensors", "drives") and not (
        folder.isdigit() and 1 <= int(folder) <= 100_000
    ):
        raise ConfigError(f"--format {format} wants a number of scans in place of a folder, got {folder!r}.")
    if format == "drives":
        from vision.pointcloud.hidden import FIRST as DRIVES
        from vision.pointcloud.hidden import hidden_lines, hidden_report, merged_lines, merged_report

        if detector.sweeps > 1:
            report = merged_report(detector, Detector.open(None, where), int(folder), sensor, DRIVES + first)
            emit(report, json_path, merged_lines(report))
            return
        report = hidden_report(detector, int(folder), sweeps, sensor, DRIVES + first)
        emit(report, json_path, hidden_lines(report))
        return
    if format == "sensors":
        by_sensor = sensors_report(int(folder), detector, SENSORS, front, first)
        told = {"n": int(folder), "weights": detector.name, "sensors": by_sensor}
        emit(told, json_path, sensor_lines(by_sensor))
        return
    others: dict[str, Any] = {}
    if baselines:
        others["hand_made"] = hand_made_finder()
        try:
            other = Detector.open(BASELINE, where)
            if quick:
                other.hurry()
            finder: Any = network_finder(other)
            finder.thresholds = other.thresholds
            others["bev"] = finder
        except WeightsError as error:
            say(f"without the bird's-eye baseline: {error}")
    failed, unlabelled = [], 0
    if format == "synthetic":
        examples = list(generated(int(folder), sensor, front, first))
    else:
        paths, unlabelled = find_examples(folder, format)
        if unlabelled:
            say(f"{folder}: {unlabelled} scans without labels left out.")
        examples = []
        for path in paths:
            try:
                examples.append(read_example(path, format))
            except DataError as error:
                say(str(error))
                failed.append({"name": path.name, "error": str(error)})
        if not examples:
            raise DataError(f"{folder}: no scan could be read.")
    report = score(examples, detector, others, moved)
    report["items"] += failed
    report["n"] += len(failed)
    report["unlabelled"] = unlabelled
    emit(report, json_path, table(report))
    if failed:
        raise typer.Exit(2)


def sensor_lines(rows: dict[str, dict[str, float | int | None]]) -> list[str]:
    """A line a sensor."""
    lines = [f"{'sensor':<10}{'cars':>6}{'recall@.5':>11}{'precision':>11}{'ece':>6}"]
    for name, row in rows.items():
        shown = [row[key] for key in ("recall30m@0.5", "precision30m@0.5", "ece@0.5")]
        recall, precision, error = (math.nan if value is None else value for value in shown)
        lines.append(f"{name:<10}{row['gt30m']:>6}{recall:>11.2f}{precision:>11.2f}{error:>6.2f}")
    return lines


@app.command()
def operators(
    width: Annotated[int, typer.Option("--width", min=4, max=512, help="Channels of a voxel.")] = 64,
    tokens: Annotated[int, typer.Option("--tokens", min=64, max=65536, help="Voxels, in two groups.")] = 8192,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="Train each for so long.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Train each for so many steps.")] = None,
    scans: Annotated[int, typer.Option("--scans", min=1, help="Generated scans that score.")] = 40,
    only: Annotated[
        str | None, typer.Option("--only", help="Operators and backbones, with commas between.")
    ] = None,
    real: Annotated[
        list[str] | None, typer.Option("--real", help="FOLDER=FORMAT of labelled scans that score too.")
    ] = None,
    out: RunFolder = Path("runs/operators"),
    start: Annotated[
        str | None, typer.Option("--start", help="Weights that all but the operators begin with.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that make scans ahead.")] = 0,
    pool: Annotated[
        int, typer.Option("--pool", min=0, help="Different scans to learn from; 0: always fresh ones.")
    ] = 0,
    store: Annotated[str, typer.Option("--store", help="Folder that keeps the scans of the pool.")] = "",
    device: Device = None,
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Parameters, time and memory of every operator along groups of voxels, on this machine.

    With --minutes or --steps every operator is trained in a LION detector, side by side on the same batches,
    then the other backbones with the best one, and all are scored on the same scans: a table by equal time
    and one by equal steps.

    Example: recurra pointcloud operators --minutes 10 --steps 300 --out runs/operators --real kitti/=kitti
    """
    from core.errors import ConfigError
    from core.report import table as lined
    from vision.pointcloud.models.operators import measured

    set_threads(threads)
    if minutes is not None or steps is not None:
        from vision.pointcloud.comparison import BACKBONES, OPERATORS, Plan, compare, lines_of

        parts = [word.partition("=") for word in real or []]
        folders = [(folder, format) for folder, _, format in parts]
        if any(not format for _, format in folders):
            raise ConfigError(f"--real is FOLDER=FORMAT, such as kitti/=kitti; got {(real or [''])[0]!r}.")
        names = tuple(only.split(",")) if only else (*OPERATORS, *BACKBONES)
        plan, found = Plan(minutes, steps, scans, names, pool, store), []
        for row in compare(plan, out, folders, seed, named_device(device), workers, start):
            found.append(row)
            say(lines_of([row])[1])
        emit({"rows": found}, json_path, lines_of(found))
        return
    rows = list(measured(width, tokens, named_device(device)))
    head = ["operator", "parameters", "ms", "of min_gru", "kept MB"]
    body = [
        [
            row["operator"], f"{row['parameters']:,}", f"{row['ms']:.1f}", f"{row['of_min_gru']:.1f}",
            f"{row['kept_mb']:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    if "from_cpu" in rows[0]:
        head += ["peak MB", "from CPU"]
        body = [
            [*cells, f"{row['peak_mb']:.1f}", f"{row['from_cpu']:.1e}"]
            for cells, row in zip(body, rows, strict=True)
        ]
    lines = lined(head, body)
    emit({"width": width, "tokens": tokens, "operators": rows}, json_path, lines)


@app.command()
def score(
    truth: Annotated[Path, typer.Argument(help="Folder of labels: tables, or KITTI text.")],
    found: Annotated[Path, typer.Argument(help="Folder of detections of the same names.")],
    metric: Annotated[
        str, typer.Option("--metric", help="kitti, nuscenes, waymo, av2, once or tracking.")
    ] = "nuscenes",
    json_path: Json = None,
) -> None:
    """Score detections that lie on disk, by the protocol of a benchmark; no network is asked.

    Tables have category, length_m, width_m, height_m, tx_m, ty_m, tz_m, yaw and, as the metric wants, score,
    num_interior_pts, hard, vx, vy, id.

    Example: recurra pointcloud score labels/ boxes/ --metric waymo --json figures.json
    """
    from vision.pointcloud.scoring import score as scored

    report = scored(truth, found, metric)
    flat = []
    for name, value in report["model"].items():
        if isinstance(value, dict):
            parts = ", ".join(f"{key} {number_of(part)}" for key, part in value.items())
            flat.append(f"{name}: {parts}")
        elif isinstance(value, list):
            flat.append(f"{name}: {' / '.join(number_of(part) for part in value)}")
        else:
            flat.append(f"{name}: {number_of(value)}")
    emit(report, json_path, [f"{report['n']} files, {metric}", *flat])


def number_of(value: Any) -> str:
    """A figure for people."""
    return "-" if value is None else f"{value:.4g}"
