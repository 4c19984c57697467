"""Scans as they come: a folder that fills, length-prefixed scans on a pipe, packets of a turning sensor.

Detection is slower than some sensors. Scans wait in a short line; when it is full the oldest one goes and is
counted, so that answers are never about the past.
"""

import math
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.errors import DataError
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.data import LARGEST, SUFFIXES
from vision.pointcloud.examples import is_scan
from vision.pointcloud.formats.raw import read_floats
from vision.pointcloud.ground import Plane, estimate_ground
from vision.pointcloud.predict import NAMES, Boxes, Detector

POLL_S = 0.05
STILL_S = 0.1
"""A file is whole when its size has not changed for so long."""


@dataclass(frozen=True)
class Arrived:
    """A scan in the line, or why it is none."""

    name: str
    read: Callable[[], Cloud]
    at_s: float
    """When it came, on a clock that never goes back."""


class Line:
    """A line of at most `most` scans between a reader's thread and the detector; 0 has no limit."""

    def __init__(self, most: int) -> None:
        self.most, self.dropped, self.closed = most, 0, False
        self.waiting: deque[Arrived] = deque()
        self.changed = threading.Condition()
        self.failure: Exception | None = None

    def put(self, scan: Arrived) -> None:
        """Add a scan; the oldest goes when there are too many."""
        with self.changed:
            self.waiting.append(scan)
            if self.most and len(self.waiting) > self.most:
                self.waiting.popleft()
                self.dropped += 1
            self.changed.notify()

    def close(self, failure: Exception | None = None) -> None:
        """Nothing more will come."""
        with self.changed:
            self.closed, self.failure = True, failure
            self.changed.notify()

    def __iter__(self) -> Iterator[Arrived]:
        """The scans, oldest first; ends when the line is closed and empty.

        Raises:
            DataError: what the source failed with, after the scans before it.
        """
        while True:
            with self.changed:
                while not self.waiting and not self.closed:
                    self.changed.wait(POLL_S)  # a wait without end would not hear Ctrl-C
                if not self.waiting:
                    if self.failure is not None:
                        raise self.failure
                    return
                scan = self.waiting.popleft()
            yield scan

    def filled_by(self, source: Iterator[Arrived]) -> "Line":
        """Start a thread that puts everything of a source into the line."""

        def fill() -> None:
            try:
                for scan in source:
                    self.put(scan)
            except Exception as error:  # whatever it is, the other thread must hear of it
                self.close(error)
            else:
                self.close()

        threading.Thread(target=fill, daemon=True).start()
        return self


def scans_of(pipe: BinaryIO, columns: int | None = None) -> Iterator[Arrived]:
    """Scans on a pipe: uint32 bytes of the scan, little-endian, then so many bytes of float32 rows.

    Raises:
        DataError: a length that is no scan, or an end in the midst of one.
    """
    number = 0
    while head := exactly(pipe, 4):
        (size,) = struct.unpack("<I", head.ljust(4, b"\0"))
        if len(head) < 4 or size % 4 or size > LARGEST:
            raise DataError(f"scan {number} on standard input: {size} is no length of float32 rows in bytes.")
        data = exactly(pipe, size)
        if len(data) < size:
            raise DataError(f"scan {number} on standard input ends after {len(data)} of {size} bytes.")
        name = f"scan {number}"
        yield Arrived(name, reader_of(data, name, columns), time.monotonic())
        number += 1


def reader_of(data: bytes, name: str, columns: int | None) -> Callable[[], Cloud]:
    """Rows are taken apart when it is their turn, not while the next scan is waiting on the pipe."""
    empty = Cloud(np.zeros((0, 3), np.float32), name=name, format="bin")
    return lambda: read_floats(data, name, columns) if data else empty


def exactly(pipe: BinaryIO, size: int) -> bytes:
    """So many bytes, or fewer at the end of the pipe; memory grows with what comes, not with what is told."""
    parts, left = [], size
    while left:
        part = pipe.read(min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def new_files(
    folder: Path, read: Callable[[Path], Cloud], stop: Callable[[], bool] = lambda: False
) -> Iterator[Arrived]:
    """Files that come into a folder from now on, once each and when they are whole."""
    return files_after(set(listed(folder)), folder, read, stop)  # what is there now is known at once


def listed(folder: Path) -> list[Path]:
    """What lies in a folder.

    Raises:
        DataError: it cannot be read, or is gone.
    """
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: the folder that is watched cannot be read ({error.strerror}).") from error


def files_after(
    seen: set[Path], folder: Path, read: Callable[[Path], Cloud], stop: Callable[[], bool]
) -> Iterator[Arrived]:
    """Whole files of a folder that are not among `seen`."""
    growing: dict[Path, tuple[int, float]] = {}
    while not stop():
        now = time.monotonic()
        for path in sorted(set(listed(folder)) - seen):
            if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            if not is_scan(path):
                continue
            try:
                size = path.stat().st_size
            except OSError:  # taken away between two looks
                continue
            known, since = growing.get(path, (-1, now))
            if size != known:
                growing[path] = size, now
            elif size and now - since >= STILL_S:
                seen.add(path)
                del growing[path]
                yield Arrived(path.name, lambda path=path: read(path), now)
        time.sleep(POLL_S)


def answers(line: Line, work: Callable[[Arrived, Cloud], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One plain answer a scan, with its latency from arrival to answer; a damaged scan is an answer too."""
    for scan in line:
        try:
            result = work(scan, scan.read())
        except DataError as error:
            result = {"source": scan.name, "error": str(error)}
        yield {
            **result,
            "latency_s": round(time.monotonic() - scan.at_s, 4),
            "waiting": len(line.waiting),
            "dropped": line.dropped,
        }


def warm(detector: Detector) -> float:
    """Compile and fill caches with a small scan; gives the seconds it took."""
    began = time.monotonic()
    rng = np.random.default_rng(0)
    detector(Cloud(rng.uniform(-20, 20, (2000, 3)).astype(np.float32), name="warm-up"))
    return time.monotonic() - began


@dataclass
class Sectors:
    """Packets of a turning sensor -> boxes of a quarter of the turn as soon as it is complete.

    Feed points in the order in which they come. A quarter is complete when points of another one follow, or
    at `flush`. The last known points of the other quarters stand behind it, for the rim of its crop.
    """

    detector: Detector
    growing: int | None = None
    """The quarter that is filling: 0 from +x to +y, counter-clockwise."""
    fresh: list[np.ndarray] = field(default_factory=list)
    known: dict[int, np.ndarray] = field(default_factory=dict)

    def feed(self, points: np.ndarray, name: str = "packet") -> list[Boxes]:
        """Points (N, 3+); gives the boxes of every quarter that this completes."""
        done = []
        xyz = np.asarray(points, np.float32)[:, :3]
        xyz = xyz[np.isfinite(xyz).all(1)]
        quarter = quarter_of(xyz)
        for rows in np.split(np.arange(len(xyz)), np.flatnonzero(np.diff(quarter)) + 1):
            if not len(rows):
                continue
            here = int(quarter[rows[0]])
            if self.growing is not None and here != self.growing:
                done += self.flush(name)
            self.growing = here
            self.fresh.append(xyz[rows])
        return done

    def flush(self, name: str = "packet") -> list[Boxes]:
        """The boxes of the quarter that is filling, however full it is."""
        if self.growing is None or not self.fresh:
            return []
        turn, self.growing = self.growing, None
        self.known[turn] = np.concatenate(self.fresh)
        self.fresh = []
        xyz = np.concatenate(list(self.known.values()))
        return [quarter_boxes(self.detector, xyz, turn, name)]


def quarter_of(xyz: np.ndarray) -> np.ndarray:
    """Which quarter of the turn places (N, 3) lie in, (N,) 0..3."""
    turns = np.arctan2(xyz[:, 1], xyz[:, 0]) / (math.pi / 2)
    return np.floor(turns).astype(int) % 4


def quarter_boxes(detector: Detector, xyz: np.ndarray, turn: int, name: str) -> Boxes:
    """Boxes with their centre in a quarter, at the thresholds of the weights."""
    from vision.pointcloud.boxes import count_inside

    began = time.perf_counter()
    plane: Plane = estimate_ground(xyz)
    floor = min(min(detector.thresholds.values()), 0.999)
    box, score, kind = detector.find(xyz, plane, floor, (turn,))
    limit = np.array([detector.thresholds[known] for known in NAMES])
    box = box[:, :7]
    keep = (quarter_of(box) == turn) & (score >= limit[kind])
    found = Boxes(
        boxes=box,
        scores=score,
        names=tuple(NAMES[k] for k in kind),
        points=count_inside(xyz, box),
        ground=plane,
        source=f"{name}, quarter {turn}",
        seconds={"all": time.perf_counter() - began},
    )
    return replace(found.having(keep), seconds=found.seconds)
