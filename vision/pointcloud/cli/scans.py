"""Scans themselves: generated, described, in other layouts; and weights in another format."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    OUTPUTS,
    Json,
    OutFile,
    OutFolder,
    Seed,
    Threads,
    Weights,
    emit,
    say_all,
    set_threads,
    target,
)
from vision.pointcloud.cli.app import Inputs, app, scans_of


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
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write labelled scans of generated streets; the same bytes for a seed.

    Example: recurra pointcloud simulate -o scans --scans 20 --sensor vlp16 --as kitti
    """
    from vision.pointcloud.realism import write_report
    from vision.pointcloud.write import write_scans, write_sequences

    set_threads(threads)
    if sweeps is not None:
        written = write_sequences(out, scans, sweeps, sensor, seed)
    else:
        written = write_scans(out, scans, sensor, layout, seed)
    told = [] if report is None else list(write_report(report, scans, sensor, seed))
    emit(
        {"folder": str(out), "scans": written, "report": told}, json_path, [f"{out}: {written} scans", *told]
    )


@app.command()
def info(
    inputs: Inputs,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels of the scan (one scan).")] = None,
    png: Annotated[Path | None, target("A picture from above (one scan).", "--png")] = None,
    axes: Annotated[str | None, typer.Option("--axes", help="Axes of the file.")] = None,
    unit: Annotated[float | None, typer.Option("--unit", help="Metres of one unit of the file.")] = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Say what is in a scan: format, channels, extent, rings, ground, axes and unit with their reason.

    With --labels also what is odd about its labels. Weights (.pth, .pt, .ckpt, .safetensors) are named: which
    published detector, which operator, which keys are missing or unknown.

    Example: recurra pointcloud info scan.pcd
    """
    from dataclasses import asdict

    from core.errors import ConfigError
    from core.jobs import Job, finish, run
    from core.jobs import mirror as jobs_of
    from vision.pointcloud.labelled import about_labels, read_labels, write_truth
    from vision.pointcloud.layouts import WEIGHTS, recognised
    from vision.pointcloud.reading import Reading, about, read_as, told

    set_threads(threads)
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

    done = run(jobs_of(scans_of(inputs), None), describe, "scans")
    results = [result for _, result in done.results]
    lines = [line for result in results for line in told(result)]
    if labels is not None and results:
        lines += results[0]["labels"]["remarks"] or ["  labels: nothing odd"]
    if results:
        emit(results[0] if len(results) == 1 else {"scans": results}, json_path, lines)
    finish(done)


@app.command()
def convert(
    inputs: Annotated[
        list[str], typer.Argument(help="A cloud, or labels (.label.txt, .csv, .json); or many clouds.")
    ],
    out: Annotated[Path, OUTPUTS],
    layout: Annotated[
        str | None, typer.Option("--as", help="Many clouds: the suffix of all, such as npz; -o is a folder.")
    ] = None,
    calib: Annotated[Path | None, typer.Option("--calib", help="KITTI calibration, for labels.")] = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write clouds or labels in another layout; every field that was read is written again.

    One file goes to the file -o, whose suffix names the layout; files, folders and globs of clouds mirror
    their tree below the folder -o, in the layout --as.

    Example: recurra pointcloud convert scan.pcd -o scan.npz
    """
    from core.errors import ConfigError
    from core.files import check_place
    from core.jobs import Job, finish, mirror, run
    from vision.pointcloud.convert import CLOUDS, write_cloud, write_labels
    from vision.pointcloud.data import read_cloud
    from vision.pointcloud.formats.kitti import CAMERA, read_calibration
    from vision.pointcloud.formats.labels import read_json_labels, read_kitti_labels, read_table_labels

    set_threads(threads)

    def rewritten(source: Path, out: Path) -> dict[str, Any]:
        cloud = read_cloud(source)
        say_all(cloud.remarks)
        write_cloud(cloud, out)
        return {"file": str(out), "points": len(cloud)}

    def work(job: Job) -> dict[str, Any]:
        assert job.target is not None
        return rewritten(job.source.path, job.target)

    if layout is not None:
        suffix = f".{layout.lstrip('.')}"
        if suffix not in CLOUDS:
            raise ConfigError(f"--as is a layout of clouds: {', '.join(CLOUDS)}; got {layout!r}.")
        done = run(mirror(scans_of(inputs), out, suffix), work, "scans", again=True)
        files = [result for _, result in done.results]
        emit({"files": files}, json_path, [f"{one['file']}: {one['points']:,} points" for one in files])
        finish(done)
        return
    if len(inputs) != 1 or Path(inputs[0]).is_dir():
        raise ConfigError("many clouds want --as, the suffix of all, and a folder as -o.")
    source = Path(inputs[0])
    check_place(str(out))
    labels = source.name.endswith((".label.txt", ".labels.csv", ".labels.json")) or calib is not None
    if not labels:
        result = rewritten(source, out)
        emit(result, json_path, [f"{out}: {result['points']:,} points"])
        return
    camera = CAMERA if calib is None else read_calibration(calib)
    readers = {".csv": read_table_labels, ".json": read_json_labels}
    if source.suffix in readers:
        truth = readers[source.suffix](source)
    else:
        truth = read_kitti_labels(source, camera)
    written = write_labels(truth, out, camera)
    result = {"file": str(out), "labels": written, "of": len(truth)}
    emit(result, json_path, [f"{out}: {written} of {len(truth)} labels"])


@app.command()
def export(
    out: OutFile,
    whole: Annotated[bool, typer.Option("--whole", help="From points on, for min_gru and min_lstm.")] = False,
    weights: Weights = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write a detector as ONNX, checked against torch: its dense part, or with --whole from points on.

    The whole detector takes the levelled points of one quadrant (65,536; what only fills the list lies at
    1,000,000 m) and gives heat and numbers of its map.

    Example: recurra pointcloud export -o pointcloud.onnx --whole
    """
    from vision.pointcloud.export import export_onnx, export_whole
    from vision.pointcloud.predict import Detector

    set_threads(threads)
    worst = (export_whole if whole else export_onnx)(Detector.open(weights), out)
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference": worst}
    emit(result, json_path, [f"{out}: {size / 1024:.0f} KB, largest difference from torch {worst:.2g}"])
