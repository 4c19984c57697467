"""Sweeps merged into one scan: places, ages, and networks that read them."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from core.weights import Card, save
from vision.pointcloud.cli import app
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import PRESETS, ModelConfig
from vision.pointcloud.crops import MakeCrops, batch_of, crop_points, crops_of, turned, view
from vision.pointcloud.hidden import merged_lines, merged_report
from vision.pointcloud.merge import brought, merged, merged_clouds
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.predict import THRESHOLDS, Detector, ages
from vision.pointcloud.synth.sequence import Sweep, sequence
from vision.pointcloud.train import learn

RUN = CliRunner()
MERGED = ModelConfig("bev", width=8, deep=8, depth=1, sweeps=2)


@pytest.fixture(scope="module")
def drive() -> list[Sweep]:
    return sequence(1_700_003, "vlp16", 3)


def test_an_earlier_sweep_lies_where_the_last_one_sees_it() -> None:
    flat = np.column_stack([np.random.default_rng(0).uniform(-25, 25, (3000, 2)), np.full(3000, -1.7)])
    wall = np.array([[10.0, 2.0, 0.3]])
    # a vehicle that goes 2 m ahead and turns left by 90 degrees
    seen = np.array([[2.0, -8.0, 0.3]])
    poses = [np.zeros(3), np.array([2.0, 0.0, math.pi / 2])]
    first, second = brought([np.vstack([wall, flat]), np.vstack([seen, flat])], poses)
    np.testing.assert_allclose(first[0], second[0], atol=0.02)


def test_a_standing_car_lies_in_its_box_through_all_sweeps(drive: list[Sweep]) -> None:
    scan = merged(drive)
    assert len(scan.points) == sum(len(sweep.scan.points) for sweep in drive)
    np.testing.assert_allclose(np.unique(scan.time), [-0.2, -0.1, 0.0], atol=1e-6)
    assert scan.velocity is not None
    still = np.hypot(*scan.velocity.T) < 0.01
    near = still & (scan.counts > 30) & (scan.kinds == 0)
    assert near.any()
    last = drive[-1].scan
    for box, own in zip(scan.boxes[near], last.counts[near], strict=True):
        c, s = math.cos(box[6]), math.sin(box[6])
        dx, dy = scan.points[:, 0] - box[0], scan.points[:, 1] - box[1]
        inside = (np.abs(c * dx + s * dy) < box[3] / 2 + 0.1) & (np.abs(c * dy - s * dx) < box[4] / 2 + 0.1)
        inside &= np.abs(scan.points[:, 2] - box[2]) < box[5] / 2 + 0.2
        assert inside.sum() > 2 * own


def test_ages_and_speeds_come_through_views_and_crops(drive: list[Sweep]) -> None:
    scan = merged(drive)
    seen = view(scan, np.random.default_rng(4))
    assert seen.points.shape[1] == 4
    assert seen.boxes.shape[1] == 9
    moving = np.hypot(*scan.velocity.T) > 1  # pyright: ignore[reportOptionalMemberAccess]
    before = np.arctan2(scan.velocity[moving, 1], scan.velocity[moving, 0]) - scan.boxes[moving, 6]  # pyright: ignore
    after = np.arctan2(seen.boxes[moving, 8], seen.boxes[moving, 7]) - seen.boxes[moving, 6]
    assert np.allclose(np.cos(before), np.cos(after), atol=1e-3)
    batch = batch_of(crops_of(seen))
    points, _, _ = batch.cloud(torch.device("cpu"))
    assert set(points[:, 3].mul(10).round().unique().tolist()) <= {0.0, 1.0, 2.0}
    assert batch.numbers.shape[1] == 11


def test_velocities_turn_with_their_quadrant() -> None:
    box = np.array([[3.0, 4.0, 0, 4, 2, 1.5, 0.0, 5.0, 1.0]])
    for turn in range(4):
        out = turned(box, turn)
        c, s = math.cos(-turn * math.pi / 2), math.sin(-turn * math.pi / 2)
        np.testing.assert_allclose(out[0, 7:], [c * 5 - s * 1, s * 5 + c * 1], atol=1e-9)
    assert crop_points(np.array([[3.0, 4.0, 0.5, 0.1]], np.float32), 0).tolist() == [
        [3.0, 4.0, 0.5, pytest.approx(0.1)]
    ]


@pytest.mark.parametrize("backbone", ["lion", "bev"])
def test_a_network_of_merged_sweeps_learns_and_detects(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(ModelConfig(backbone, dim=8, width=8, deep=8, depth=1, sweeps=2))  # pyright: ignore
    batch = MakeCrops("vlp16", 1, 2)(1, torch.Generator().manual_seed(1))
    parts = learn(network, batch)
    parts["loss"].backward()
    assert "speed" in parts
    assert network.get_parameter("head.numbers.weight").grad[9:].abs().sum() > 0  # pyright: ignore
    detector = Detector(network, THRESHOLDS, "merged")
    rng = np.random.default_rng(0)
    clouds = [Cloud(rng.uniform(-20, 20, (2000, 3)).astype(np.float32), name="noise") for _ in range(2)]
    cloud = merged_clouds(clouds, [np.zeros(3), np.array([0.5, 0, 0])], [0.0, 0.1])
    np.testing.assert_allclose(np.unique(ages(cloud)), [0.0, 0.1], atol=1e-6)
    found = detector(cloud, floor=0.001)
    assert found.velocity is not None
    assert found.velocity.shape == (len(found), 2)
    assert found.boxes.shape == (len(found), 7)
    assert len(found) > 0
    assert "velocity_mps" in found.as_dict()["boxes"][0]


def test_nuscenes_wants_ten_sweeps_and_memory_excludes_merging() -> None:
    assert PRESETS["nuscenes"].sweeps == 10
    with pytest.raises(ConfigError, match="merged or remembered"):
        ModelConfig(sweeps=2, memory="min_gru")


def test_the_command_merges_a_drive_and_says_what_it_wants(tmp_path: Path) -> None:
    card = Card(task="pointcloud", unit="none", data="made", terms="none", settings={"model": asdict(MERGED)})
    save(tmp_path / "two.safetensors", build_network(MERGED), card)
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).uniform(-20, 20, (900, 3)))
    rows = "time_s,x_m,y_m,yaw_rad\n0,0,0,0\n0.1,1,0,0\n0.2,2,0,0\n"
    (tmp_path / "poses.csv").write_text(rows, encoding="utf-8")
    weights = str(tmp_path / "two.safetensors")
    words = ["detect", str(tmp_path / "*.npy"), "--weights", weights, "--sweeps", "2"]
    assert "--sweeps wants --pose" in str(RUN.invoke(app, words).exception)
    answer = RUN.invoke(
        app, [*words, "--pose", str(tmp_path / "poses.csv"), "--score", "0.01", "--json", "-"]
    )
    assert answer.exit_code == 0, answer.output
    scans = json.loads(answer.stdout)["scans"]
    assert len(scans) == 3
    assert "tracks" in scans[2]


def test_merged_sweeps_are_scored_beside_the_last_one(drive: list[Sweep]) -> None:
    torch.manual_seed(0)
    both = Detector(build_network(MERGED), THRESHOLDS, "two")
    alone = Detector(build_network(ModelConfig("bev", width=8, deep=8, depth=1)), THRESHOLDS, "one")
    report = merged_report(both, alone, 1, "vlp16")
    assert (report["n"], report["sweeps"]) == (1, 2)
    assert report["single"]["cars"] == report["merged"]["cars"] > 0
    assert report["merged"]["recall"] == 0.0  # nothing learned, nothing above the threshold
    assert report["merged"]["precision"] is None
    assert report["merged"]["speed_error_mps"] is None
    assert len(merged_lines(report)) == 5
