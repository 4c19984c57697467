"""Tracks keep their identity and find a mover's speed; their state can be saved at any time."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from vision.pointcloud.ground import Plane
from vision.pointcloud.poses import in_world, read_poses
from vision.pointcloud.predict import Boxes
from vision.pointcloud.track import Tracked, Tracker


def scene(time: float, rng: np.random.Generator | None = None, lost: bool = False) -> Boxes:
    """Two cars that pass each other at 10 m/s, and a parked one."""
    rows = [
        [-20 + 10 * time, 1.5, 0, 4, 1.8, 1.5, 0.0],
        [20 - 10 * time, -1.5, 0, 4, 1.8, 1.5, np.pi],
        [5, 9, 0, 4, 2, 1.6, 1.5],
    ]
    boxes = np.array(rows, float)
    if rng is not None:
        boxes[:, :2] += rng.normal(0, 0.15, (3, 2))
        boxes[:, 6] += np.pi * (rng.random(3) < 0.2)  # a detector that takes the tail for the nose
    if lost:
        boxes = boxes[1:]
    n = len(boxes)
    return Boxes(boxes, np.full(n, 0.8), ("Car",) * n, np.full(n, 50), Plane(0, 0, -1.7, 0.3))


def run(tracker: Tracker, steps: int, first: int = 0, seed: int = 0) -> list[Tracked]:
    rng = np.random.default_rng(seed)
    found: list[Tracked] = []
    for k in range(first + steps):
        boxes = scene(0.1 * k, rng, lost=k in (15, 16))
        if k >= first:
            found = tracker.update(boxes, 0.1 * k)
    return found


def test_cars_that_pass_keep_their_numbers_and_speed() -> None:
    found = run(Tracker(), 40)
    assert sorted(track.id for track in found) == [0, 1, 2]
    speed = {track.id: track.velocity[0] for track in found}
    assert speed[0] == pytest.approx(10, abs=1)
    assert speed[1] == pytest.approx(-10, abs=1)
    assert speed[2] == pytest.approx(0, abs=1)
    assert all(abs(np.sin(track.box[6])) < 0.2 for track in found if track.id < 2)


def test_a_track_is_confirmed_late_and_forgotten_late() -> None:
    tracker = Tracker()
    empty = scene(0).having(np.zeros(3, bool))
    counts = [len(tracker.update(scene(0.1 * k), 0.1 * k)) for k in range(4)]
    assert counts == [0, 0, 3, 3]
    counts = [len(tracker.update(empty, 0.4 + 0.1 * k)) for k in range(6)]
    assert counts[0] == 3
    assert counts[-1] == 0
    assert tracker.tracks == []


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    whole, half = Tracker(), Tracker()
    run(half, 20)
    again = Tracker.from_dict(json.loads(json.dumps(half.as_dict())))
    wanted = run(whole, 30)
    found = run(again, 10, first=20)
    assert [track.as_dict() for track in found] == [track.as_dict() for track in wanted]


def test_thousands_of_scans_leave_nothing_behind() -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for k in range(1500):
        boxes = scene(0, rng)
        tracker.update(boxes.having(rng.random(3) < 0.5), 0.1 * k)
    assert len(tracker.tracks) < 30


def test_time_does_not_go_back() -> None:
    tracker = Tracker()
    tracker.update(scene(0), 1.0)
    with pytest.raises(DataError, match="must not go back"):
        tracker.update(scene(0), 0.5)
    with pytest.raises(DataError, match="not the state"):
        Tracker.from_dict({"tracks": [{}]})


def test_what_stands_has_no_speed_in_the_world(tmp_path: Path) -> None:
    rows = ["time_s,x_m,y_m,yaw_rad"] + [f"{0.1 * k},{1.0 * k},0.5,{0.02 * k}" for k in range(8)]
    (tmp_path / "poses.csv").write_text("\n".join(rows))
    tracker = Tracker()
    for pose in read_poses(tmp_path / "poses.csv"):
        gap = np.array([30.0 - pose.x_m, 4.0 - pose.y_m])
        c, s = np.cos(pose.yaw_rad), np.sin(pose.yaw_rad)
        seen = np.array([[c * gap[0] + s * gap[1], c * gap[1] - s * gap[0], 0, 4, 2, 1.5, -pose.yaw_rad]])
        found = Boxes(seen, np.ones(1), ("Car",), np.array([99]), Plane(0, 0, 0, 1))
        tracks = tracker.update(in_world(found, pose), pose.time_s)
    assert len(tracks) == 1
    np.testing.assert_allclose(tracks[0].box[:2], [30, 4], atol=0.05)
    assert np.abs(tracks[0].velocity).max() < 0.5


def test_poses_of_kitti_and_what_is_none(tmp_path: Path) -> None:
    ahead = "1 0 0 -2 0 1 0 0 0 0 1 5\n"  # two metres to the left, five ahead
    (tmp_path / "a.txt").write_text(ahead * 2)
    one, two = read_poses(tmp_path / "a.txt")
    assert (one.x_m, one.y_m, one.yaw_rad, two.time_s) == (5, 2, 0, 0.1)
    (tmp_path / "a.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match="12 numbers"):
        read_poses(tmp_path / "a.txt")
