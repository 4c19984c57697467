"""Boxes of scans: files, folders, a folder that is watched, scans on standard input."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    OUTPUTS,
    Device,
    Json,
    Threads,
    Weights,
    emit,
    say,
    say_all,
    set_threads,
    target,
)
from core.terminal import device as named_device
from vision.pointcloud.cli.app import Inputs, app


@app.command()
def detect(
    inputs: Inputs,
    out: Annotated[Path | None, OUTPUTS] = None,
    format: Annotated[str, typer.Option("--format", help="json, jsonl, kitti, csv or ply.")] = "json",
    html: Annotated[Path | None, target("A page with the scan in 3D (one scan).", "--html")] = None,
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
    pose: Annotated[
        Path | None, typer.Option("--pose", help="Poses of the scans: tracks then live in the world.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for new scans in a folder, for ever.")] = False,
    backlog: Annotated[
        int, typer.Option("--backlog", min=0, help="Live: scans that may wait, 0 for all; the oldest go.")
    ] = 2,
    columns: Annotated[
        int | None, typer.Option("--columns", min=3, max=16, help="Numbers per point on standard input.")
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

    With - scans come on standard input: each a uint32 length in bytes, then float32 rows. There and with
    --watch one JSON line a scan goes to standard output, with its latency and how many were dropped.

    Example: recurra pointcloud detect scans/ -o boxes/ --format kitti
    """
    from core.errors import ConfigError
    from core.files import write_text
    from core.jobs import Job, finish, gather, mirror, run
    from vision.pointcloud.answers import FORMATS, text_of, write_page, write_picture
    from vision.pointcloud.data import SUFFIXES
    from vision.pointcloud.poses import in_world, read_poses
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
    if track is not None and not track > 0:
        raise ConfigError(f"--track is scans a second, above 0; got {track}.")
    if watch or inputs == ["-"]:
        live(inputs, watch, backlog, columns, detector, reading, front, range_m, z_offset, track)
        return
    jobs = sharded(mirror(gather(inputs, SUFFIXES), out, FORMATS[format]), shard)
    if (html or png) and len(jobs) != 1:
        raise ConfigError(f"--html and --png show one scan; there are {len(jobs)}.")

    tracker, number = Tracker(), iter(range(len(jobs)))
    poses = None if pose is None else read_poses(pose)
    if poses is not None and len(poses) < len(jobs):
        raise ConfigError(f"{pose} has {len(poses)} poses for {len(jobs)} scans.")
    if poses is not None and track is None:
        track = 10.0
    if track is not None and poses is None:
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
            turn = next(number)
            if poses is None:
                tracks = tracker.update(found, turn / track)
            else:
                tracks = tracker.update(in_world(found, poses[turn]), poses[turn].time_s)
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


def live(
    inputs: list[str],
    watch: bool,
    backlog: int,
    columns: int | None,
    detector: Any,
    reading: Any,
    front: bool,
    range_m: float | None,
    z_offset: float | None,
    track: float | None,
) -> None:
    """Scans as they come, one JSON line each."""
    import json
    import sys

    from core.errors import ConfigError
    from vision.pointcloud.live import Line, answers, new_files, scans_of, warm
    from vision.pointcloud.reading import as_said, read_as
    from vision.pointcloud.track import Tracker

    if watch and (len(inputs) != 1 or not Path(inputs[0]).is_dir()):
        raise ConfigError("--watch wants one folder.")
    tracker, began = Tracker(), None
    seconds = warm(detector)
    source = (
        new_files(Path(inputs[0]), lambda path: read_as(path, reading))
        if watch
        else scans_of(sys.stdin.buffer, columns)
    )
    say(f"ready after {seconds:.1f} s.")

    def work(scan: Any, cloud: Any) -> dict[str, Any]:
        nonlocal began
        cloud = cloud if watch else as_said(cloud, reading)
        found = detector(cloud, front=front, range_m=range_m, z_offset=z_offset)
        result = found.as_dict()
        if track is not None:
            began = scan.at_s if began is None else began
            result["tracks"] = [one.as_dict() for one in tracker.update(found, scan.at_s - began)]
        return result

    for result in answers(Line(backlog).filled_by(source), work):
        print(json.dumps(result), flush=True)
