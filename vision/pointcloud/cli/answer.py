"""Boxes of scans: files, folders, a folder that is watched, scans on standard input."""

import math
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    OUTPUTS,
    Device,
    Json,
    Seed,
    Threads,
    Weights,
    emit,
    say,
    say_all,
    target,
)
from core.terminal import device as named_device
from vision.pointcloud.cli.app import Inputs, app, begin, scans_of


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
    memory: Annotated[
        bool, typer.Option("--memory", help="Carry what was seen from scan to scan; give --pose too.")
    ] = False,
    sweeps: Annotated[
        int, typer.Option("--sweeps", min=1, max=50, help="Merge so many scans by --pose; for such weights.")
    ] = 1,
    packets: Annotated[
        bool, typer.Option("--packets", help="On standard input come parts of a turn; boxes a quarter.")
    ] = False,
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
    seed: Seed = 0,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Find cars, people and cyclists; boxes come in the frame of the file.

    With - scans come on standard input: each a uint32 length in bytes, then float32 rows. There and with
    --watch one JSON line a scan goes to standard output, with its latency and how many were dropped.

    With --memory the scans are sweeps of one drive: cars that were seen stay while they are hidden, and boxes
    have velocities. --sweeps 10 merges every scan with the nine before it instead. Both want all scans of a
    drive in their order.

    Example: recurra pointcloud detect scans/ -o boxes/ --format kitti
    """
    from core.errors import ConfigError
    from core.files import write_text
    from core.jobs import Job, finish, mirror, run
    from vision.pointcloud.answers import FORMATS, text_of, write_page, write_picture
    from vision.pointcloud.merge import merged_clouds
    from vision.pointcloud.poses import in_world, read_poses
    from vision.pointcloud.predict import Detector
    from vision.pointcloud.reading import Reading, read_as, sharded, thresholds_of
    from vision.pointcloud.remember import MEMORY, Remembering
    from vision.pointcloud.track import Tracker

    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}; there are {', '.join(FORMATS)}.")
    reading = Reading(axes, unit, ego)
    limits = thresholds_of(score)
    if range_m is not None and not range_m > 0:
        raise ConfigError(f"--range is metres, above 0; got {range_m}.")
    if z_offset is not None and not math.isfinite(z_offset):
        raise ConfigError(f"--z-offset is metres; got {z_offset}.")
    if track is not None and not 0 < track < math.inf:
        raise ConfigError(f"--track is scans a second, above 0; got {track}.")
    begin(threads, seed)
    if (memory or sweeps > 1) and (watch or inputs == ["-"] or resume or shard):
        raise ConfigError("--memory and --sweeps go with all files of one drive, in their order.")
    if memory and (sweeps > 1 or front or range_m is not None or z_offset is not None):
        raise ConfigError("--memory does not go with --sweeps, --front, --range or --z-offset.")
    if packets and inputs != ["-"]:
        raise ConfigError("--packets reads standard input: give - as the input.")
    if sweeps > 1 and pose is None:
        raise ConfigError("--sweeps wants --pose: where the vehicle was at every scan.")
    detector = Detector.open(weights or (MEMORY if memory else None), named_device(device))
    if quick:
        detector.hurry()
    detector.thresholds.update(limits)
    if watch or inputs == ["-"]:
        live(inputs, watch, packets, backlog, columns, detector, reading, front, range_m, z_offset, track)
        return
    jobs = sharded(mirror(scans_of(inputs), out, FORMATS[format]), shard)
    if (html or png) and len(jobs) != 1:
        raise ConfigError(f"--html and --png show one scan; there are {len(jobs)}.")

    tracker, number = Tracker(), iter(range(len(jobs)))
    remembering = Remembering(detector) if memory else None
    recent: deque[tuple[Any, Any]] = deque(maxlen=sweeps)
    poses = None if pose is None else read_poses(pose)
    if poses is not None and len(poses) < len(jobs):
        raise ConfigError(f"{pose} has {len(poses)} poses for {len(jobs)} scans.")
    if poses is not None and track is None:
        track = 10.0
    if memory and poses is None:
        say("the memory takes the vehicle to stand: without poses what it carries is left behind.")
    if track is not None and poses is None:
        say("tracks live in the frame of the files: without poses the own motion is part of every speed.")

    def work(job: Job) -> dict[str, Any]:
        cloud = read_as(job.source.path, reading)
        turn = next(number)
        if sweeps > 1 and poses is not None:
            recent.append((cloud, poses[turn]))
            cloud = merged_clouds(*zip(*((one, at.place, at.time_s) for one, at in recent), strict=True))
        if remembering is not None:
            found = remembering(cloud, None if poses is None else poses[turn])
        else:
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
    packets: bool,
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
    from vision.pointcloud.live import Line, Sectors, answers, new_files, warm
    from vision.pointcloud.live import scans_of as piped
    from vision.pointcloud.predict import to_ours
    from vision.pointcloud.reading import as_said, read_as
    from vision.pointcloud.track import Tracker

    if watch and (len(inputs) != 1 or not Path(inputs[0]).is_dir()):
        raise ConfigError("--watch wants one folder.")
    tracker, began = Tracker(), None
    seconds = warm(detector)
    source = (
        new_files(Path(inputs[0]), lambda path: read_as(path, reading))
        if watch
        else piped(sys.stdin.buffer, columns)
    )
    say(f"ready after {seconds:.1f} s.")
    sectors = Sectors(detector)

    def work(scan: Any, cloud: Any) -> dict[str, Any]:
        nonlocal began
        cloud = cloud if watch else as_said(cloud, reading)
        if packets:
            parts = sectors.feed(to_ours(cloud.points, cloud.frame), scan.name)
            return {"source": scan.name, "sectors": [part.as_dict() for part in parts]}
        found = detector(cloud, front=front, range_m=range_m, z_offset=z_offset)
        result = found.as_dict()
        if track is not None:
            began = scan.at_s if began is None else began
            result["tracks"] = [one.as_dict() for one in tracker.update(found, scan.at_s - began)]
        return result

    for result in answers(Line(0 if packets else backlog).filled_by(source), work):  # no packet may be lost
        print(json.dumps(result), flush=True)
    for part in sectors.flush("end"):
        print(json.dumps({"source": "end", "sectors": [part.as_dict()]}), flush=True)
