"""Folders of labelled scans in public layouts: what is a scan, which labels are its own, what is left out."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from core.errors import DataError
from vision.pointcloud.cli import app
from vision.pointcloud.evaluation import figures, hand_made_finder, seen_part
from vision.pointcloud.examples import find_examples, read_example
from vision.pointcloud.formats.kitti import CAMERA, kitti_label, write_calibration
from vision.pointcloud.formats.labels import role
from vision.pointcloud.formats.nuscenes_tables import detection_name, read_tables

RUN = CliRunner()
HALF = math.sqrt(0.5)
LIMITS = dict.fromkeys(("Car", "Pedestrian", "Cyclist"), 0.0)
BOX = np.array([12.0, 1.0, -0.9, 4.2, 1.8, 1.5, 0.3])


def car_and_ground(rng: np.random.Generator) -> np.ndarray:
    """Points (N, 4) of a flat road with a box on it."""
    road = np.column_stack(
        [rng.uniform(3, 30, 4000), rng.uniform(-8, 8, 4000), rng.normal(-1.65, 0.01, 4000)]
    )
    c, s = math.cos(BOX[6]), math.sin(BOX[6])
    local = rng.uniform(-0.5, 0.5, (300, 3)) * BOX[3:6]
    x, y = c * local[:, 0] - s * local[:, 1], s * local[:, 0] + c * local[:, 1]
    car = np.column_stack([x, y, local[:, 2]]) + BOX[:3]
    return np.column_stack([np.concatenate([road, car]), np.full(4300, 0.3)]).astype("<f4")


def test_a_kitti_tree_with_image_sets_and_scans_without_labels(tmp_path: Path) -> None:
    root = tmp_path / "object"
    for part in ("training/velodyne", "training/label_2", "training/calib", "testing/velodyne", "ImageSets"):
        (root / part).mkdir(parents=True)
    points = car_and_ground(np.random.default_rng(0))
    line = kitti_label(BOX, "CAR", CAMERA)
    assert line is not None
    odd = line.replace("CAR", "Unicorn")
    region = "DontCare -1 -1 -10 0 0 5 5 -1 -1 -1 -1000 -1000 -1000 -10\n"
    for name, text in (("000123", f"{line}\n{odd}\n{region}"), ("000124", ""), ("000125", None)):
        points.tofile(root / f"training/velodyne/{name}.bin")
        write_calibration(root / f"training/calib/{name}.txt")
        if text is not None:
            (root / f"training/label_2/{name}.txt").write_text(text)
    points.tofile(root / "testing/velodyne/000001.bin")
    (root / "ImageSets/val.txt").write_text("000123\n000124\n")
    (root / "ImageSets/train.txt").write_text("000125\n")
    paths, unlabelled = find_examples(root, "kitti")
    assert [path.stem for path in paths] == ["000123", "000124"]
    assert unlabelled == 2
    one, empty = (seen_part(read_example(path, "kitti")) for path in paths)
    assert one.truth.names == ("CAR", "Unicorn")
    assert one.camera is not None
    assert (one.camera.width, one.camera.height) == (1242, 375)
    assert one.truth.boxes[0] == pytest.approx(BOX, abs=0.02)
    assert len(empty.truth) == 0
    finder = hand_made_finder()
    found = [finder(one), finder(empty)]
    rows = figures([one, empty], found, LIMITS)
    assert rows["Car"]["gt30m"] == 1
    assert rows["Pedestrian"]["gt30m"] == 0
    for key in ("recall30m@0.3", "recall30m@0.5", "precision30m@0.5", "bev@0.5", "3d@0.7"):
        assert rows["Pedestrian"][key] is None  # nothing to find


def nuscenes_tree(root: Path) -> Path:
    """A key-frame with a car and a pedestrian in published tables; the vehicle stands turned on the map."""
    points = car_and_ground(np.random.default_rng(1))
    theirs = np.column_stack([-points[:, 1], points[:, 0], points[:, 2], points[:, 3] * 255])
    rows = np.column_stack([theirs, np.arange(len(points)) % 32]).astype("<f4")
    (root / "samples/LIDAR_TOP").mkdir(parents=True)
    (root / "sweeps/LIDAR_TOP").mkdir(parents=True)
    rows.tofile(root / "samples/LIDAR_TOP/n1__LIDAR_TOP__1.pcd.bin")
    rows.tofile(root / "sweeps/LIDAR_TOP/n1__LIDAR_TOP__2.pcd.bin")
    tables: dict[str, list[dict[str, Any]]] = {
        "category": [
            {"token": "c1", "name": "vehicle.car"},
            {"token": "c2", "name": "human.pedestrian.adult"},
        ],
        "instance": [{"token": f"i{k}", "category_token": f"c{k}"} for k in (1, 2)],
        "ego_pose": [{"token": "e", "translation": [400.0, 1100.0, 0.5], "rotation": [0.8, 0, 0, 0.6]}],
        "calibrated_sensor": [
            {"token": "s", "translation": [0.9, 0.0, 1.8], "rotation": [HALF, 0, 0, -HALF]}
        ],
        "sample_data": [
            {"token": "d", "sample_token": "a", "ego_pose_token": "e", "calibrated_sensor_token": "s",
             "filename": "samples/LIDAR_TOP/n1__LIDAR_TOP__1.pcd.bin", "is_key_frame": True}
        ],
        "sample_annotation": [],
    }  # fmt: skip
    # the file's frame is turned by -90 degrees against the vehicle's, and that by atan2(.96, .28) on the map
    turn = math.atan2(2 * 0.8 * 0.6, 1 - 2 * 0.6 * 0.6)
    for k, (x, y, z, length, width, height, heading) in (
        (1, BOX),
        (2, np.array([8, -3, -0.8, 0.6, 0.7, 1.7, 0])),
    ):
        ex, ey, ez = x + 0.9, y, z + 1.8
        c, s = math.cos(turn), math.sin(turn)
        yaw = heading + turn
        tables["sample_annotation"].append(
            {"token": f"t{k}", "sample_token": "a", "instance_token": f"i{k}",
             "size": [width, length, height],
             "translation": [c * ex - s * ey + 400.0, s * ex + c * ey + 1100.0, ez + 0.5],
             "rotation": [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]}
        )  # fmt: skip
    (root / "v1.0-mini").mkdir()
    for name, rows_of in tables.items():
        (root / f"v1.0-mini/{name}.json").write_text(json.dumps(rows_of))
    return root


def test_published_tables_of_nuscenes_give_boxes_in_the_frame_of_the_file(tmp_path: Path) -> None:
    read_tables.cache_clear()
    root = nuscenes_tree(tmp_path / "nuscenes")
    paths, unlabelled = find_examples(root, "nuscenes")
    assert [path.parent.parent.name for path in paths] == ["samples"]
    assert unlabelled == 1
    example = read_example(paths[0], "nuscenes")
    assert example.truth.names == ("car", "pedestrian")
    x, y, z, length, width, height, heading = BOX
    wanted = [-y, x, z, length, width, height, heading + math.pi / 2]  # x to the right, y ahead
    assert example.truth.boxes[0] == pytest.approx(wanted, abs=1e-6)
    assert [role(name) for name in example.truth.names] == ["Car", "Pedestrian"]
    kept = figures(
        [example], [hand_made_finder()(example)], dict.fromkeys(("Car", "Pedestrian", "Cyclist"), 0.0)
    )
    assert kept["Car"]["gt30m"] == 1


def test_damaged_tables_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for name, text, words in (
        ("ego_pose", "[]", "do not fit"),
        ("instance", "{", "not a table"),
        (
            "sample_annotation",
            '[{"token": "t", "sample_token": "a", "instance_token": "i1"}]',
            "no such thing",
        ),
    ):
        read_tables.cache_clear()
        root = nuscenes_tree(tmp_path / name)
        (root / f"v1.0-mini/{name}.json").write_text(text)
        (path,) = find_examples(root, "nuscenes")[0]
        with pytest.raises(DataError, match=words):
            read_example(path, "nuscenes")


def test_classes_are_known_in_any_case_and_by_the_words_of_the_protocol() -> None:
    for name in ("Car", "car", "CAR", "REGULAR_VEHICLE", "regular_vehicle"):
        assert role(name) == "Car"
    for name in ("Van", "BOX_TRUCK", "School_bus", "VEHICULAR_TRAILER", "Misc", "DontCare", "Towed_Object",
                 "LARGE_VEHICLE", "Caravan/RV", "Tram", "vehicle.emergency.police"):  # fmt: skip
        assert role(name) == "neutral", name
    assert role("Unicorn") == "other"
    assert detection_name("vehicle.bus.rigid") == "bus"
    assert detection_name("vehicle.emergency.police") == "vehicle.emergency.police"
    assert detection_name("animal") == "animal"


def test_labels_beside_any_cloud_and_frames_without_are_counted(tmp_path: Path) -> None:
    points = car_and_ground(np.random.default_rng(2))
    np.savetxt(tmp_path / "a.xyz", points)
    np.save(tmp_path / "b.npy", points)
    head = "category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw\n"
    x, y, z, length, width, height, yaw = BOX
    row = f"{{}},{length},{width},{height},{x},{y},{z},{yaw}\n"
    (tmp_path / "a.labels.csv").write_text(head + row.format("rEgUlAr_VeHiClE") + row.format("dragon"))
    out = tmp_path / "r.json"
    done = RUN.invoke(app, ["evaluate", str(tmp_path), "--format", "labels", "--alone", "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert set(report) >= {"n", "model", "baselines", "items", "protocol"}
    assert (report["n"], report["unlabelled"]) == (1, 1)
    assert report["model"]["Car"]["gt30m"] == 1
    assert report["model"]["Cyclist"]["recall30m@0.5"] is None
    keys = {"gt30m", "recall30m@0.3", "recall30m@0.5", "precision30m@0.3", "precision30m@0.5", "bev@0.5",
            "3d@0.25", "3d@0.5", "3d@0.7"}  # fmt: skip
    for name in ("Car", "Pedestrian", "Cyclist"):
        assert set(report["model"][name]) >= keys
