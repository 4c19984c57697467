"""Scans themselves: generated, described, in other layouts; and weights in another format."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    Json,
    OutFile,
    OutFolder,
    Seed,
    Weights,
    emit,
    say_all,
    target,
)
from vision.pointcloud.cli.app import Inputs, app


@app.command()
def simulate(
    out: OutFolder,
    scans: Annotated[int, typer.Option("--scans", min=1, max=100_000, help="How many scans.")] = 10,
    sensor: Annotated[
        str, typer.Option("--sensor", help="hdl64, hdl32, vlp16, av2, rings128, random, mixture, or a .toml.")
    ] = "hdl64",
    layout: Annotated[str, typer.Option("--as", help="kitti or labels.")] = "labels",
    sweeps: Annotated[
        int | None, typer.Option("--sweeps", help="Sequences of so many sweeps, with ids, velocities, poses.")
    ] = None,
    report: Annotated[
        Path | None, target("A page that sets the scans beside numbers of real ones.", "--report")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write labelled scans of generated streets; the same bytes for a seed.

    Example: recurra pointcloud simulate -o scans --scans 20 --sensor vlp16 --as kitti
    """
    from vision.pointcloud.realism import write_report
    from vision.pointcloud.write import write_scans, write_sequences

    if sweeps is not None:
        written = write_sequences(out, scans, sweeps, sensor, seed)
    else:
        written = write_scans(out, scans, sensor, layout, seed)
    print(f"{out}: {written} scans")
    if report is not None:
        for line in write_report(report, scans, sensor, seed):
            print(line)


@app.command()
def info(
    inputs: Inputs,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels of the scan (one scan).")] = None,
    png: Annotated[Path | None, target("A picture from above (one scan).", "--png")] = None,
    axes: Annotated[str | None, typer.Option("--axes", help="Axes of the file.")] = None,
    unit: Annotated[float | None, typer.Option("--unit", help="Metres of one unit of the file.")] = None,
    json_path: Json = None,
) -> None:
    """Say what is in a scan: format, channels, extent, rings, ground, axes and unit with their reason.

    With --labels also what is odd about its labels. Weights (.pth, .pt, .ckpt, .safetensors) are named: which
    published detector, which operator, which keys are missing or unknown.

    Example: recurra pointcloud info scan.pcd
    """
    from dataclasses import asdict

    from core.errors import ConfigError
    from core.jobs import Job, finish, gather, run
    from core.jobs import mirror as jobs_of
    from vision.pointcloud.data import SUFFIXES
    from vision.pointcloud.labelled import about_labels, read_labels, write_truth
    from vision.pointcloud.layouts import WEIGHTS, recognised
    from vision.pointcloud.reading import Reading, about, read_as, told

    if all(Path(word).suffix in WEIGHTS for word in inputs):
        found = [(word, recognised(word)) for word in inputs]
        rows = [{"file": word, **asdict(one)} for word, one in found]
        told_of = [line for word, one in found for line in (f"{word}: {one.lines()[0]}", *one.lines()[1:])]
        emit(rows[0] if len(rows) == 1 else {"weights": rows}, json_path, told_of)
        return
    reading = Reading(axes, unit, None)
    if (labels or png) and len(inputs) != 1:
        raise ConfigError(f"--labels and --png belong to one scan; there are {len(inputs)}.")

    def describe(job: Job) -> dict[str, Any]:
        cloud = read_as(job.source.path, reading)
        truth = None if labels is None else read_labels(labels, job.source.path)
        if png is not None:
            write_truth(cloud, truth, png)
        facts = about(cloud)
        return facts if truth is None else {**facts, "labels": about_labels(cloud, truth)}

    done = run(jobs_of(gather(inputs, SUFFIXES), None), describe, "scans")
    results = [result for _, result in done.results]
    lines = [line for result in results for line in told(result)]
    if labels is not None and results:
        lines += results[0]["labels"]["remarks"] or ["  labels: nothing odd"]
    if results:
        emit(results[0] if len(results) == 1 else {"scans": results}, json_path, lines)
    finish(done)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A cloud, or labels (.label.txt, .csv, .json).")],
    out: Annotated[Path, target("File to write; its suffix names the layout.")],
    calib: Annotated[Path | None, typer.Option("--calib", help="KITTI calibration, for labels.")] = None,
) -> None:
    """Write a cloud or labels in another layout; every field that was read is written again.

    Example: recurra pointcloud convert scan.pcd -o scan.npz
    """
    from vision.pointcloud.convert import write_cloud, write_labels
    from vision.pointcloud.data import read_cloud
    from vision.pointcloud.formats.kitti import CAMERA, read_calibration
    from vision.pointcloud.formats.labels import read_json_labels, read_kitti_labels, read_table_labels

    labels = source.name.endswith((".label.txt", ".labels.csv", ".labels.json")) or calib is not None
    if not labels:
        cloud = read_cloud(source)
        say_all(cloud.remarks)
        write_cloud(cloud, out)
        print(f"{out}: {len(cloud):,} points")
        return
    camera = CAMERA if calib is None else read_calibration(calib)
    readers = {".csv": read_table_labels, ".json": read_json_labels}
    if source.suffix in readers:
        truth = readers[source.suffix](source)
    else:
        truth = read_kitti_labels(source, camera)
    written = write_labels(truth, out, camera)
    print(f"{out}: {written} of {len(truth)} labels")


@app.command()
def export(
    out: OutFile,
    whole: Annotated[bool, typer.Option("--whole", help="From points on, for min_gru and min_lstm.")] = False,
    weights: Weights = None,
    json_path: Json = None,
) -> None:
    """Write a detector as ONNX, checked against torch: its dense part, or with --whole from points on.

    The whole detector takes the levelled points of one quadrant (65,536; what only fills the list lies at
    1,000,000 m) and gives heat and numbers of its map.

    Example: recurra pointcloud export -o pointcloud.onnx --whole
    """
    from vision.pointcloud.export import export_onnx, export_whole
    from vision.pointcloud.predict import Detector

    worst = (export_whole if whole else export_onnx)(Detector.open(weights), out)
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference": worst}
    emit(result, json_path, [f"{out}: {size / 1024:.0f} KB, largest difference from torch {worst:.2g}"])
