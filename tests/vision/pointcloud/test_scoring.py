"""Protocols of benchmarks on label and detection files, and the ways to suppress doubles."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.errors import DataError
from vision.pointcloud.cli import app
from vision.pointcloud.nms import circle_nms, nms_per_class, soft_nms
from vision.pointcloud.protocols.overlap_ap import JudgedScene, once_score, waymo_score
from vision.pointcloud.scoring import METRICS, paired, score
from vision.pointcloud.write import write_scans

HEAD = "category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw,num_interior_pts,score,id"
CARS = np.array([[10.0, 0, 0, 4, 2, 1.5, 0.1], [40.0, 5, 0, 4, 2, 1.5, 3.0], [0.0, 60, 0, 4, 2, 1.5, 1.0]])


def moved(x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """The cars, a little aside."""
    out = CARS.copy()
    out[:, :2] += (x, y)
    return out


def table(path: Path, boxes: np.ndarray, scores: list[float], points: int = 50, ids: bool = True) -> None:
    """Cars as a table."""
    rows = [HEAD]
    for k, (box, value) in enumerate(zip(boxes, scores, strict=True)):
        x, y, z, length, width, height, yaw = box
        rows.append(f"Car,{length},{width},{height},{x},{y},{z},{yaw},{points},{value},{k if ids else ''}")
    path.write_text("\n".join(rows) + "\n")


def scene(boxes: np.ndarray, scores: list[float], points: list[int] | None = None) -> JudgedScene:
    known = np.array(points or [50] * len(CARS))
    return JudgedScene(CARS, known, np.zeros(len(CARS), bool), boxes, np.array(scores))


def test_waymo_weighs_headings_and_sets_hard_truth_aside() -> None:
    perfect = waymo_score([scene(CARS, [0.9, 0.8, 0.7])], "Car")
    assert perfect == {"AP_L1": 1.0, "APH_L1": 1.0, "AP_L2": 1.0, "APH_L2": 1.0}
    turned = CARS.copy()
    turned[:, 6] += np.pi
    assert waymo_score([scene(turned, [0.9, 0.8, 0.7])], "Car")["APH_L1"] == pytest.approx(0, abs=1e-9)
    few = waymo_score([scene(CARS[:2], [0.9, 0.8], [50, 50, 3])], "Car")
    assert few["AP_L1"] == 1.0  # the third has too few points for level 1
    assert few["AP_L2"] == pytest.approx(2 / 3)
    empty = waymo_score([scene(CARS[:2], [0.9, 0.8], [50, 0, 0])], "Car")
    assert empty["AP_L1"] == 1.0  # a box on a label without points is not false
    both = np.vstack([moved(y=9), CARS])
    false = waymo_score([scene(both, [0.9] * 3 + [0.5] * 3)], "Car")
    assert false["AP_L1"] == pytest.approx(0.5)


def test_once_wants_the_heading_and_splits_by_range() -> None:
    figures = once_score([scene(CARS, [0.9, 0.8, 0.7])], "Car")
    assert figures == {"all": 1.0, "0-30": 1.0, "30-50": 1.0, "50-": 1.0}
    turned = CARS.copy()
    turned[0, 6] += np.pi
    figures = once_score([scene(turned, [0.9, 0.8, 0.7])], "Car")
    assert figures["0-30"] == 0.0
    assert figures["30-50"] == figures["50-"] == 1.0
    assert (
        once_score([JudgedScene(CARS[:0], np.zeros(0), np.zeros(0, bool), CARS, np.ones(3))], "Car")["all"]
        is None
    )


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "kitti"])
def test_labels_as_detections_are_perfect(metric: str, tmp_path: Path) -> None:
    for folder in ("truth", "found"):
        (tmp_path / folder).mkdir()
        for frame in range(3):
            table(tmp_path / folder / f"{frame}.labels.csv", moved(x=frame), [0.9, 0.8, 0.7])
    answer = CliRunner().invoke(
        app, ["score", str(tmp_path / "truth"), str(tmp_path / "found"), "--metric", metric, "--json", "-"]
    )
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    best = {"nuscenes": "mAP", "waymo": "mAPH_L2", "av2": "mAP", "once": "mall", "tracking": "HOTA"}[metric]
    assert report["n"] == 3
    assert report["model"][best] == pytest.approx(1.0, abs=1e-6)


def test_kitti_text_is_scored_as_the_benchmark_does(tmp_path: Path) -> None:
    write_scans(tmp_path / "truth", 2, "hdl64", "kitti", 3)
    (tmp_path / "found").mkdir()
    for path in (tmp_path / "truth").glob("*.label.txt"):
        lines = [f"{line} 0.9\n" for line in path.read_text().splitlines()]
        (tmp_path / "found" / path.name.replace(".label", "")).write_text("".join(lines))
    figures = score(tmp_path / "truth", tmp_path / "found", "kitti")["model"]
    for path in (tmp_path / "found").iterdir():  # without image boxes they are worked out
        words = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(" ".join([*row[:4], "0", "0", "0", "0", *row[8:]]) + "\n" for row in words))
    again = score(tmp_path / "truth", tmp_path / "found", "kitti")["model"]
    np.testing.assert_allclose(again["Car 3d R40 strict"], figures["Car 3d R40 strict"], atol=5)
    rows = figures["Car 3d R40 strict"]
    assert all(value >= 0 for value in rows)
    assert max(rows) > 0


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    for folder in ("truth", "found"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="no tables with labels"):
        paired(tmp_path / "truth", tmp_path / "found", False)
    table(tmp_path / "truth" / "a.csv", CARS, [1, 1, 1], ids=False)
    table(tmp_path / "found" / "b.csv", CARS, [1, 1, 1])
    with pytest.raises(DataError, match="b has detections and no labels"):
        paired(tmp_path / "truth", tmp_path / "found", False)
    (tmp_path / "found" / "b.csv").unlink()
    with pytest.raises(DataError, match="column id"):
        score(tmp_path / "truth", tmp_path / "found", "tracking")
    (tmp_path / "truth" / "a.csv").write_text(HEAD + "\nCar,0,2,1,0,0,0,0,1,1,1\n")
    with pytest.raises(DataError, match="not above 0"):
        score(tmp_path / "truth", tmp_path / "found", "waymo")


def test_doubles_go_by_class_by_distance_or_lose_score() -> None:
    boxes = np.array([[0.0, 0, 0, 4, 2, 1.5, 0], [0.3, 0, 0, 4, 2, 1.5, 0], [3.0, 0, 0, 4, 2, 1.5, 0]])
    scores = np.array([0.9, 0.8, 0.7])
    assert nms_per_class(boxes, scores, np.array([0, 1, 0]), 0.1).tolist() == [0, 1]
    assert nms_per_class(boxes, scores, np.array([0, 0, 1]), 0.1).tolist() == [0, 2]
    assert nms_per_class(boxes, scores, np.array([0, 0, 1]), (1.0, 0.1)).tolist() == [0, 1, 2]
    assert circle_nms(boxes, scores, 1.0).tolist() == [0, 2]
    assert circle_nms(boxes[:0], scores[:0], 1.0).tolist() == []
    order, lowered = soft_nms(boxes, scores, 0.5)
    assert order.tolist() == [0, 2, 1]
    near, far = 3.7 / 4.3, 1.0 / 7.0
    between = 1.3 / 6.7
    assert lowered[0] == 0.9
    assert lowered[1] == pytest.approx(0.7 * np.exp(-(far**2) / 0.5))
    assert lowered[2] == pytest.approx(0.8 * np.exp(-(near**2 + between**2) / 0.5))
