"""`recurra pointcloud`: detect, simulate, train, evaluate, info."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import DataError
from core.terminal import (
    OUTPUTS,
    Config,
    Device,
    Json,
    OutFile,
    OutFolder,
    Quiet,
    Resume,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Start,
    Threads,
    Weights,
    application,
    emit,
    say,
    say_all,
    set_threads,
    target,
)
from core.terminal import device as named_device

app = application(
    "Find cars, people and cyclists in LiDAR scans of any sensor.\n\n"
    "Example: recurra pointcloud detect scan.bin --json boxes.json"
)


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


@app.command()
def simulate(
    out: OutFolder,
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


Inputs = Annotated[list[str], typer.Argument(help="Scans: files, folders or globs.")]


@app.command()
def detect(
    inputs: Inputs,
    out: Annotated[Path | None, OUTPUTS] = None,
    format: Annotated[str, typer.Option("--format", help="json, jsonl, kitti, csv or ply.")] = "json",
    html: Annotated[
        Path | None,
        target("A page with the scan in 3D (one scan).", "--html"),
    ] = None,
    png: Annotated[Path | None, target("A picture from above (one scan).", "--png")] = None,
    weights: Weights = None,
    score: Annotated[
        str | None, typer.Option("--score", help="Least score: one number, or Car=.4,Pedestrian=.3.")
    ] = None,
    range_m: Annotated[
        float | None, typer.Option("--range", help="Leave out boxes beyond, in metres.")
    ] = None,
    front: Annotated[bool, typer.Option("--front", help="Only a view along +x was recorded.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Half of the work, a little less exact.")] = False,
    ego: Annotated[
        str | None, typer.Option("--ego", help="L,W in metres: returns of the own vehicle.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option("--axes", help="Axes of the file: xyz, yx (x right, y ahead), or such as -yxz."),
    ] = None,
    unit: Annotated[float | None, typer.Option("--unit", help="Metres of one unit of the file.")] = None,
    z_offset: Annotated[
        float | None, typer.Option("--z-offset", help="Height of the origin above ground, m.")
    ] = None,
    track: Annotated[
        float | None, typer.Option("--track", help="Number boxes over the files, so many scans a second.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave alone what is done already.")] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/n: every n-th file, from the i-th on.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Find cars, people and cyclists; boxes come in the frame of the file.

    Example: recurra pointcloud detect scans/ -o boxes/ --format kitti
    """
    from core.errors import ConfigError
    from core.files import write_text
    from core.jobs import Job, finish, gather, mirror, run
    from vision.pointcloud.answers import FORMATS, text_of, write_page, write_picture
    from vision.pointcloud.data import SUFFIXES
    from vision.pointcloud.predict import Detector
    from vision.pointcloud.reading import Reading, read_as, sharded, thresholds_of
    from vision.pointcloud.track import Tracker

    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}; there are {', '.join(FORMATS)}.")
    reading = Reading(axes, unit, ego)
    limits = thresholds_of(score)
    set_threads(threads)
    detector = Detector.open(weights, named_device(device))
    detector.thresholds.update(limits)
    detector.mirror = not quick
    jobs = sharded(mirror(gather(inputs, SUFFIXES), out, FORMATS[format]), shard)
    if (html or png) and len(jobs) != 1:
        raise ConfigError(f"--html and --png show one scan; there are {len(jobs)}.")

    if track is not None and not track > 0:
        raise ConfigError(f"--track is scans a second, above 0; got {track}.")
    tracker, number = Tracker(), iter(range(len(jobs)))
    if track is not None:
        say("tracks live in the frame of the files: without poses the own motion is part of every speed.")

    def work(job: Job) -> dict[str, Any]:
        cloud = read_as(job.source.path, reading)
        found = detector(cloud, front=front, range_m=range_m, z_offset=z_offset)
        say_all(found.remarks)
        if job.target is not None:
            write_text(job.target, text_of(found, format))
        if html is not None:
            write_page(cloud, found, html)
        if png is not None:
            write_picture(cloud, found, png)
        result = found.as_dict()
        if track is not None:
            tracks = tracker.update(found, next(number) / track)
            result["tracks"] = [one.as_dict() for one in tracks]
        return result

    done = run(jobs, work, "scans", again=not resume)
    results = [result for _, result in done.results]
    lines = []
    for result in results:
        counts = {
            name: sum(box["class"] == name for box in result["boxes"])
            for name in ("Car", "Pedestrian", "Cyclist")
        }
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        lines.append(f"{result['source']}: {found}; {result['seconds']['all']:.2f} s")
    if results or not done.failures:
        one = (
            results[0]
            if len(inputs) == 1 and len(results) == 1
            else {"weights": detector.name, "scans": results}
        )
        emit(one, json_path, lines)
    finish(done)


@app.command()
def evaluate(
    folder: Annotated[
        str, typer.Argument(help="Folder of labelled scans; a number of scans for --format synthetic.")
    ],
    format: Annotated[
        str, typer.Option("--format", help="kitti, av2, nuscenes, labels or synthetic.")
    ] = "kitti",
    weights: Weights = None,
    sensor: Annotated[str, typer.Option("--sensor", help="Of synthetic scans.")] = "hdl64",
    front: Annotated[bool, typer.Option("--front", help="Synthetic scans cut to a camera's view.")] = False,
    baselines: Annotated[bool, typer.Option("--baselines/--alone", help="Score the baselines too.")] = True,
    device: Device = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score the detector beside both baselines, by one protocol for every folder.

    Example: recurra pointcloud evaluate kitti/ --format kitti --json report.json
    """
    from core.errors import ConfigError, WeightsError
    from vision.pointcloud.evaluate import evaluate as score
    from vision.pointcloud.evaluate import hand_made_finder, network_finder, table
    from vision.pointcloud.examples import find_examples, generated, read_example
    from vision.pointcloud.predict import BASELINE, Detector

    set_threads(threads)
    where = named_device(device)
    detector = Detector.open(weights, where)
    others: dict[str, Any] = {}
    if baselines:
        others["hand_made"] = hand_made_finder()
        try:
            other = Detector.open(BASELINE, where)
            finder: Any = network_finder(other)
            finder.thresholds = other.thresholds
            others["bev"] = finder
        except WeightsError as error:
            say(f"without the bird's-eye baseline: {error}")
    failed = []
    if format == "synthetic":
        if not folder.isdigit() or not 1 <= int(folder) <= 100_000:
            raise ConfigError(
                f"--format synthetic wants a number of scans in place of a folder, got {folder!r}."
            )
        examples = list(generated(int(folder), sensor, front))
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
    report = score(examples, detector, others)
    report["items"] += failed
    report["n"] += len(failed)
    emit(report, json_path, table(report))
    if failed:
        raise typer.Exit(2)


@app.command()
def info(
    inputs: Inputs,
    axes: Annotated[str | None, typer.Option("--axes", help="Axes of the file.")] = None,
    unit: Annotated[float | None, typer.Option("--unit", help="Metres of one unit of the file.")] = None,
    json_path: Json = None,
) -> None:
    """Say what is in a scan: format, channels, extent, rings, ground, axes and unit with their reason.

    Example: recurra pointcloud info scan.pcd
    """
    from core.jobs import finish, gather, run
    from core.jobs import mirror as jobs_of
    from vision.pointcloud.data import SUFFIXES
    from vision.pointcloud.reading import Reading, about, read_as, told

    reading = Reading(axes, unit, None)
    done = run(
        jobs_of(gather(inputs, SUFFIXES), None), lambda job: about(read_as(job.source.path, reading)), "scans"
    )
    results = [result for _, result in done.results]
    lines = [line for result in results for line in told(result)]
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
    weights: Weights = None,
    json_path: Json = None,
) -> None:
    """Write the dense part of a detector (maps to boxes' numbers) as ONNX, checked against torch.

    Example: recurra pointcloud export -o pointcloud.onnx --weights pointcloud-bev
    """
    from vision.pointcloud.export import export_onnx
    from vision.pointcloud.predict import Detector

    worst = export_onnx(Detector.open(weights), out)
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference": worst}
    emit(result, json_path, [f"{out}: {size / 1024:.0f} KB, largest difference from torch {worst:.2g}"])


@app.command()
def operators(
    width: Annotated[int, typer.Option("--width", min=4, max=512, help="Channels of a voxel.")] = 64,
    tokens: Annotated[int, typer.Option("--tokens", min=64, max=65536, help="Voxels, in two groups.")] = 8192,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Parameters and time of every operator along groups of voxels, on this machine.

    Example: recurra pointcloud operators --width 32
    """
    from core.report import table as lined
    from vision.pointcloud.models.operators import measured

    set_threads(threads)
    rows = measured(width, tokens)
    head = ("operator", "parameters", "ms", "of min_gru")
    lines = lined(
        head,
        [
            (row["operator"], f"{row['parameters']:,}", f"{row['ms']:.1f}", f"{row['of_min_gru']:.1f}")
            for row in rows
        ],
    )
    emit({"width": width, "tokens": tokens, "operators": rows}, json_path, lines)
