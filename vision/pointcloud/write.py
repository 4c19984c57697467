"""Generated scans on disk: the KITTI layout, or points and a table of labels."""

from pathlib import Path

import numpy as np

from core.errors import ConfigError
from core.files import whole_file, write_text
from vision.pointcloud.crops import FIRST_TEST
from vision.pointcloud.formats.kitti import CAMERA, kitti_label, write_calibration
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.synth.sequence import sequence

LAYOUTS = ("kitti", "labels")
COLUMNS = "category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw,num_interior_pts,visible"
SCANS_APART = 10_000
"""Between the first scans of two seeds of a command."""


def write_scans(out: str | Path, count: int, sensor: str, layout: str, seed: int) -> int:
    """Write `count` labelled scans into a folder, each a function of (seed, number); gives how many.

    Raises:
        ConfigError: no such layout or sensor.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scan = simulate(FIRST_TEST + SCANS_APART * seed + number, sensor, tilted=layout == "labels")
        write_scan(folder, f"{number:06d}", scan, layout)
    return count


def write_sequences(out: str | Path, count: int, sweeps: int, sensor: str, seed: int) -> int:
    """Write sequences into folders 000000, 000001, ...: scans, labels with id and velocity, poses.csv.

    Raises:
        ConfigError: no such sensor, or a number of sweeps that cannot be.
    """
    for number in range(count):
        folder = Path(out) / f"{number:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        poses = ["time_s,x_m,y_m,yaw_rad"]
        for k, sweep in enumerate(sequence(FIRST_TEST + SCANS_APART * seed + number, sensor, sweeps)):
            scan = sweep.scan
            write_points(folder / f"{k:06d}.npz", scan)
            rows = [f"{COLUMNS},id,vx,vy"]
            for line, who, (vx, vy) in zip(table_lines(scan), sweep.ids, sweep.velocity, strict=True):
                rows.append(f"{line},{who},{vx:.3f},{vy:.3f}")
            write_text(folder / f"{k:06d}.labels.csv", "\n".join(rows) + "\n")
            x, y, yaw = sweep.pose
            poses.append(f"{sweep.time_s:.3f},{x:.4f},{y:.4f},{yaw:.6f}")
        write_text(folder / "poses.csv", "\n".join(poses) + "\n")
    return count * sweeps


def write_points(path: Path, scan: Scan) -> None:
    """Points, rings and times of a scan."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, points=scan.points, ring=scan.ring, time=scan.time)


def table_lines(scan: Scan) -> list[str]:
    """Rows of a table of labels."""
    rows = []
    for box, kind, points, seen in zip(scan.boxes, scan.names(), scan.counts, scan.visible, strict=True):
        x, y, z, length, width, height, heading = (f"{value:.4f}" for value in box)
        rows.append(f"{kind},{length},{width},{height},{x},{y},{z},{heading},{points},{seen:.3f}")
    return rows


def write_scan(folder: Path, name: str, scan: Scan, layout: str) -> None:
    """One scan and its labels."""
    if layout == "kitti":
        with whole_file(folder / f"{name}.bin") as part:
            part.write_bytes(scan.points.astype("<f4").tobytes())
        write_calibration(folder / f"{name}.calib.txt")
        write_text(folder / f"{name}.label.txt", "".join(kitti_lines(scan)))
        return
    write_points(folder / f"{name}.npz", scan)
    rows = [COLUMNS, *table_lines(scan)]
    write_text(folder / f"{name}.labels.csv", "\n".join(rows) + "\n")


def kitti_lines(scan: Scan) -> list[str]:
    """Label lines of what the default camera sees."""
    lines = []
    for box, kind, seen, points in zip(scan.boxes, scan.names(), scan.visible, scan.counts, strict=True):
        if points:
            occluded = 0 if seen > 0.85 else 1 if seen > 0.5 else 2
            line = kitti_label(box, kind, CAMERA, occluded)
            if line is not None:
                lines.append(line + "\n")
    return lines
