"""Sequences of sweeps, reports of realism, and scans that another vehicle would have recorded."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.disturb import disturbed, parsed
from vision.pointcloud.examples import Example
from vision.pointcloud.formats.labels import Truth
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.realism import REAL, measured
from vision.pointcloud.scoring import read_rows
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.synth.sequence import Sweep, sequence
from vision.pointcloud.write import write_sequences


@pytest.fixture(scope="module")
def drive() -> list[Sweep]:
    return sequence(1_000_021, "vlp16", 4, tilted=False)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(1_000_012, "hdl64", tilted=False)


def test_the_first_sweep_is_the_scan_of_the_same_seed_but_for_noise(drive: list[Sweep]) -> None:
    alone = simulate(1_000_021, "vlp16", tilted=False)
    first = drive[0].scan
    assert abs(len(first.points) - len(alone.points)) < 0.02 * len(alone.points)
    np.testing.assert_allclose(first.boxes, alone.boxes, atol=1e-5)


def test_every_box_moves_by_its_velocity_and_against_the_own_way(drive: list[Sweep]) -> None:
    followed = 0
    for before, after in pairwise(drive):
        step = after.time_s - before.time_s
        own = after.pose[:2] - before.pose[:2]
        for who, box, velocity in zip(before.ids, before.scan.boxes, before.velocity, strict=True):
            again = np.flatnonzero(after.ids == who)
            if len(again):
                went = after.scan.boxes[again[0], :2] - box[:2]
                np.testing.assert_allclose(went, velocity * step - own, atol=1e-3)
                followed += 1
    assert followed > 10


def test_points_stay_on_their_moving_objects(drive: list[Sweep]) -> None:
    last = drive[-1].scan
    seen = last.counts > 20
    assert seen.any()
    own = np.bincount(last.owner[last.owner >= 0], minlength=len(last.boxes))
    assert (count_inside(last.points, last.boxes)[seen] >= 0.6 * own[seen]).all()


def test_sequences_on_disk_are_the_same_bytes_and_have_ids(tmp_path: Path) -> None:
    assert write_sequences(tmp_path / "a", 1, 2, "vlp16", 3) == 2
    write_sequences(tmp_path / "b", 1, 2, "vlp16", 3)
    for name in ("000000.labels.csv", "000001.labels.csv", "poses.csv"):
        assert (tmp_path / "a/000000" / name).read_bytes() == (tmp_path / "b/000000" / name).read_bytes()
    rows = read_rows(tmp_path / "a/000000/000001.labels.csv")
    assert (rows.ids >= 0).all()
    assert np.isfinite(rows.velocity).all()
    with pytest.raises(ConfigError, match="1 to 200 sweeps"):
        sequence(1, "vlp16", 0)


def test_the_report_has_a_number_beside_every_recorded_one(scan: Scan) -> None:
    found = measured([scan])
    assert list(found) == list(REAL)
    assert found["share of firings that return"].startswith("0.")


def test_a_disturbed_scan_keeps_its_points_in_its_labels(scan: Scan) -> None:
    truth = Truth(scan.boxes.astype(float), tuple(scan.names()))
    example = Example("a", Cloud(scan.points[:, :3], name="a"), truth)
    turned = disturbed(example, parsed("turn=30"))
    before = count_inside(scan.points, scan.boxes)
    after = count_inside(turned.cloud.points, turned.truth.boxes)
    assert np.abs(before - after).max() <= 3
    tilted = disturbed(example, parsed("tilt=2"))
    plane = estimate_ground(tilted.cloud.points)
    level = estimate_ground(scan.points)
    change = np.subtract(plane.tilt_deg, level.tilt_deg)
    np.testing.assert_allclose(np.abs(change), 2, atol=0.5)
    thin = disturbed(example, parsed("turn=10,thin"))
    assert 0.3 < len(thin.cloud) / len(example.cloud) < 0.7
    with pytest.raises(ConfigError, match="--disturb"):
        parsed("tilt=50")
