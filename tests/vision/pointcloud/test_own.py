"""Training on one's own scans: layouts, labels that cannot be, pasted objects, learning by heart."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError, DataError
from vision.pointcloud.cli import app
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import TrainConfig
from vision.pointcloud.examples import Example
from vision.pointcloud.formats.labels import Truth
from vision.pointcloud.iou import iou_bev
from vision.pointcloud.own import (
    MakeOwn,
    as_scan,
    find_own,
    left_out,
    make_of,
    objects_of,
    paste,
    read_own,
    split_own,
)
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.train import fitting, sources_of
from vision.pointcloud.write import write_scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own")
    write_scans(out / "table", 5, "vlp16", "labels", 4)
    write_scans(out / "text", 1, "vlp16", "kitti", 4)
    return out


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(1_000_012, "hdl64", tilted=False)


def test_a_folder_is_read_in_the_layout_of_its_labels(folder: Path) -> None:
    found = find_own([folder / "table", folder / "text"])
    assert [one.format for one in found] == ["av2"] * 5 + ["kitti"]  # a table beside a cloud is either layout
    taught, held = split_own(found)
    assert len(taught) == 5
    assert held == [found[4]]
    assert split_own(found[:3]) == (found[:3], found[:3])
    with pytest.raises(DataError, match="no scan with labels"):
        find_own([folder / "nothing"])


def test_labels_of_a_file_become_those_of_a_generated_scan(folder: Path) -> None:
    made = simulate(1_000_000 + 40_000, "vlp16", tilted=True)
    read = read_own(find_own([folder / "table"])[0])
    np.testing.assert_allclose(read.points[:, :3], made.points[:, :3], atol=1e-5)
    kept = made.kinds != 3  # vans are neutral in files
    assert (read.kinds[kept] == made.kinds[kept]).all()
    assert (np.bincount(read.owner[read.owner >= 0], minlength=len(read.boxes)) <= read.counts).all()


def test_labels_that_cannot_be_are_left_out_and_counted() -> None:
    far, flat = [500, 0, 0, 4, 2, 1, 0], [9, 0, 0, 0, 2, 1, 0]
    boxes = np.array([[5.0, 0, 0, 4, 2, 1.5, 0], flat, far, [5, 9, 0, 1, 1, 1, 0]])
    example = Example("a", Cloud(np.zeros((9, 3), np.float32)), Truth(boxes, ("Car", "Car", "Car", "Dragon")))
    scan, left_out = as_scan(example)
    assert len(scan.boxes) == 1
    assert left_out == 3


def test_labels_that_are_left_out_are_told(folder: Path, tmp_path: Path) -> None:
    write_scans(tmp_path, 1, "vlp16", "labels", 4)
    path = tmp_path / "000000.labels.csv"
    path.write_text(path.read_text() + "Dragon,1,1,1,5,5,0,0,9,1\nCar,0,2,1,5,5,0,0,9,1\n")
    assert left_out(find_own([tmp_path]))[0].startswith("2 of ")
    assert left_out(find_own([folder / "text"])) == []


def test_pasted_objects_stand_on_the_ground_and_touch_nothing(scan: Scan) -> None:
    bank = objects_of(scan)
    assert bank
    other = simulate(1_000_013, "hdl64", tilted=False)
    full = paste(other, bank, 12, np.random.default_rng(0))
    new = full.boxes[len(other.boxes) :]
    assert 3 <= len(new) <= 12
    overlap = iou_bev(full.boxes.astype(float), full.boxes.astype(float))
    np.fill_diagonal(overlap, 0)
    assert overlap[len(other.boxes) :].max() == 0
    foot = new[:, 2] - new[:, 5] / 2
    assert np.abs(foot + other.sensor.height).max() < 1.0
    counts = np.bincount(full.owner[full.owner >= 0], minlength=len(full.boxes))[len(other.boxes) :]
    assert (counts >= 5).all()
    again = paste(other, bank, 12, np.random.default_rng(0))
    assert again.points.tobytes() == full.points.tobytes()
    assert paste(other, bank, 0, np.random.default_rng(0)) is other


def test_batches_of_own_scans_are_functions_of_their_generator(folder: Path) -> None:
    make = make_of(find_own([folder / "table"]), 1, 3, "vlp16")
    one, same = (make(1, torch.Generator().manual_seed(5)) for _ in range(2))
    assert one.points.tobytes() == same.points.tobytes()
    empty = MakeOwn(tuple(find_own([folder / "table"])), 1)
    assert len(empty(1, torch.Generator().manual_seed(1))) >= 1


def test_learning_by_heart_wants_labelled_scans() -> None:
    with pytest.raises(ConfigError, match="overfit"):
        sources_of(TrainConfig(), (), 2)


def test_a_start_tells_what_it_gave() -> None:
    other = TrainConfig(preset="own", model=replace(TrainConfig().model, width=48))
    lines = fitting(other, "pointcloud-tiny")
    assert "tensors taken" in lines[0]
    assert any("do not fit" in line and "head.heat.weight" in line for line in lines)
    assert len(fitting(TrainConfig(preset="tiny"), "pointcloud-tiny")) == 1


@pytest.mark.slow
def test_the_command_learns_scans_by_heart(folder: Path, tmp_path: Path) -> None:
    words = ["train", str(folder / "table"), "--out", str(tmp_path / "run"), "--overfit", "1", "--quiet"]
    small = ["--set", "preset=bev", "--set", "steps=30", "--set", "loop.epochs=2", "--set", "loop.lr=2e-3"]
    answer = CliRunner().invoke(app, [*words, *small, "--start", "pointcloud-bev", "--json", "-"])
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    assert report["by_heart"]["Car recall"] > 0.8
