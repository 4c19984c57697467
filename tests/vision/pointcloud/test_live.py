"""Scans as they come: pipes, folders, packets, and what is dropped."""

import io
import json
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.errors import DataError
from vision.pointcloud.cli import app
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.live import Arrived, Line, Sectors, answers, new_files, quarter_of, scans_of
from vision.pointcloud.predict import Detector
from vision.pointcloud.synth.scan import simulate
from vision.pointcloud.track import Tracker


def packed(*scans: np.ndarray) -> bytes:
    """Scans as they are sent."""
    return b"".join(struct.pack("<I", scan.nbytes) + scan.astype("<f4").tobytes() for scan in scans)


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = Detector.open("pointcloud-bev")
    found.mirror = False
    return found


def test_scans_on_a_pipe_come_back_whole() -> None:
    rng = np.random.default_rng(0)
    scans = [rng.uniform(-20, 20, (n, 4)).astype(np.float32) for n in (7, 0, 300)]
    read = [scan.read() for scan in scans_of(io.BytesIO(packed(*scans)), 4)]
    assert [len(cloud) for cloud in read] == [7, 0, 300]
    np.testing.assert_array_equal(read[2].points, scans[2][:, :3])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08\0", "no length"),
        (struct.pack("<I", 6) + b"123456", "no length"),
        (packed(np.ones((9, 4)))[:-8], "136"),
    ],
)
def test_a_broken_pipe_is_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(scans_of(io.BytesIO(data)))


def test_a_length_of_gigabytes_allocates_nothing() -> None:
    with pytest.raises(DataError, match="ends after 3 of"):
        list(scans_of(io.BytesIO(struct.pack("<I", 1 << 30) + b"abc")))


def test_the_oldest_scans_go_first_and_are_counted() -> None:
    line = Line(2)
    for k in range(5):
        line.put(Arrived(str(k), lambda: Cloud(np.zeros((0, 3), np.float32)), time.monotonic()))
    line.close()
    told = list(answers(line, lambda scan, cloud: {"source": scan.name}))
    assert [row["source"] for row in told] == ["3", "4"]
    assert [row["dropped"] for row in told] == [3, 3]
    assert all(row["latency_s"] >= 0 for row in told)


def test_files_are_read_once_and_when_they_are_whole(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(b"1234")
    finished = threading.Event()
    line = Line(0).filled_by(
        new_files(tmp_path, lambda path: Cloud(np.zeros((0, 3), np.float32), name=path.name), finished.is_set)
    )
    (tmp_path / "new.bin").write_bytes(b"12345678")
    (tmp_path / "notes.md").write_text("no scan")
    found = iter(line)
    assert next(found).name == "new.bin"
    (tmp_path / "next.bin").write_bytes(b"12345678")
    assert next(found).read().name == "next.bin"
    finished.set()
    assert list(found) == []


def test_standard_input_gives_a_line_a_scan_and_goes_on_after_a_damaged_one() -> None:
    scan = simulate(1_000_300, "vlp16").points
    bad = np.full((8, 4), 1e30, np.float32)
    words = ["detect", "-", "--weights", "pointcloud-bev", "--quick", "--backlog", "0", "--track", "10"]
    answer = CliRunner().invoke(app, words, input=packed(scan, bad, scan))
    assert answer.exit_code == 0, answer.output
    rows = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 3
    assert rows[0]["boxes"] == rows[2]["boxes"]
    assert "tracks" in rows[2]
    assert "boxes" in rows[1] or "error" in rows[1]
    assert [row["dropped"] for row in rows] == [0, 0, 0]


def test_quarters_give_the_boxes_of_the_whole_turn(detector: Detector) -> None:
    scan = simulate(1_000_012, "hdl64", tilted=False)
    points = scan.points[:, :3]
    whole = detector(Cloud(points, name="whole"))
    turn = np.argsort(np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * np.pi), kind="stable")
    sectors = Sectors(detector)
    for part in np.array_split(points[turn], 9):  # the first turn fills what stands behind the rims
        sectors.feed(part)
    found = []
    for part in np.array_split(points[turn], 9):
        found += sectors.feed(part)
    found += sectors.flush()
    assert len(found) == 5  # the last quarter of the first turn, and four
    boxes = np.concatenate([quarter.boxes for quarter in found[1:]])
    assert abs(len(boxes) - len(whole)) <= 2
    near = [np.hypot(*(boxes[:, :2] - box[:2]).T).min() < 0.3 for box in whole.boxes]
    assert sum(near) >= len(whole) - 2
    assert (quarter_of(found[1].boxes) == 0).all()


def test_a_tracker_keeps_nothing_of_thousands_of_scans() -> None:
    from vision.pointcloud.ground import Plane
    from vision.pointcloud.predict import Boxes

    tracker, sizes = Tracker(), []
    rng = np.random.default_rng(1)
    for number in range(1000):
        rest = np.tile([1.0, 4, 2, 1.5, 0], (2, 1))
        box = np.column_stack([rng.uniform(-30, 30, (2, 2)), rest])
        found = Boxes(box, np.array([0.9, 0.8]), ("Car", "Car"), np.array([9, 9]), Plane(0, 0, 0, 1))
        tracker.update(found, number * 0.1)
        sizes.append(len(tracker.tracks))
    assert max(sizes[100:]) <= 20
    assert Tracker.from_dict(tracker.as_dict()).as_dict() == tracker.as_dict()


def test_packets_on_standard_input_give_boxes_when_their_quarter_is_complete() -> None:
    points = simulate(1_000_300, "vlp16").points
    turn = np.argsort(np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * np.pi), kind="stable")
    parts = np.array_split(points[turn], 6)
    words = ["detect", "-", "--packets", "--weights", "pointcloud-bev", "--quick"]
    answer = CliRunner().invoke(app, words, input=packed(*parts))
    assert answer.exit_code == 0, answer.output
    rows = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 7  # a line a packet, and what was left at the end
    assert sum(len(row["sectors"]) for row in rows) == 4
    assert len(rows[0]["sectors"]) == 0
    assert len(rows[-1]["sectors"]) == 1
