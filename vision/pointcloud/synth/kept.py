"""Generated scans kept in a folder: made once, read by every run and worker that draws them again."""

import hashlib
import io
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from core.door import arrays
from core.errors import DataError
from core.files import check_folder_place, write_bytes
from vision.pointcloud.merge import merged
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.synth.sensors import Sensor
from vision.pointcloud.synth.sequence import sequence

LARGEST = 1 << 30
"""Bytes of a kept scan at most: some hundred sweeps."""


def made_scan(seed: int, sensor: str, sweeps: int = 1) -> Scan:
    """A generated scan, or so many sweeps of a drive as one."""
    return simulate(seed, sensor) if sweeps == 1 else merged(sequence(seed, sensor, sweeps))


def kept_scan(seed: int, sensor: str, sweeps: int, folder: str | Path) -> Scan:
    """The same, from the folder where it lies there; else it is made and put there.

    A file that is damaged, or still being written elsewhere, is made again.

    Raises:
        DataError: the folder cannot be made.
    """
    folder = Path(folder)
    kind = hashlib.sha1(sensor.encode(), usedforsecurity=False).hexdigest()[:8]
    path = folder / f"{kind}-{sweeps}-{seed}.npz"
    if path.is_file():
        try:
            return unpacked(path)
        except (DataError, KeyError, TypeError):
            path.unlink(missing_ok=True)
    scan = made_scan(seed, sensor, sweeps)
    if not folder.is_dir():
        check_folder_place(folder)
        folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, packed(scan))
    return scan


def packed(scan: Scan) -> bytes:
    """The bytes of a scan."""
    values = {part.name: getattr(scan, part.name) for part in fields(scan)}
    device = asdict(values.pop("sensor"))
    told = {f"sensor.{name}": np.asarray(value) for name, value in device.items()}
    told |= {name: np.asarray(value) for name, value in values.items() if value is not None}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **told)
    return file.getvalue()


def unpacked(path: Path) -> Scan:
    """The scan of a file.

    Raises:
        DataError: damaged.
        KeyError, TypeError: not of a scan.
    """
    found = arrays(path, path, largest=LARGEST, error=DataError)
    names = {part.name for part in fields(Sensor)}
    device = {name: found.pop(f"sensor.{name}") for name in names}
    whole = {name: part if part.ndim else part.item() for name, part in device.items()}
    fired = int(found.pop("fired"))
    return Scan(**found, sensor=Sensor(**whole), fired=fired)  # pyright: ignore[reportArgumentType]
