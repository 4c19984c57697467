"""Detection end to end: quadrants as in training, frames of files, the command, what goes wrong."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from vision.pointcloud.assign import NUMBERS, draw_targets, empty_targets
from vision.pointcloud.baselines import hand_made
from vision.pointcloud.cli import app
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import ModelConfig
from vision.pointcloud.crops import (
    CELLS,
    LOW,
    OUT_CELLS,
    MakeCrops,
    batch_of,
    crop_points,
    crops_of,
    turned,
    view,
)
from vision.pointcloud.data import read_cloud
from vision.pointcloud.decode import decode_maps
from vision.pointcloud.evaluation import view_points
from vision.pointcloud.examples import find_examples, generated, read_example
from vision.pointcloud.features import CHANNELS, bev_image
from vision.pointcloud.iou import iou_bev
from vision.pointcloud.metrics import Frame, average_precision, matched, recall_precision
from vision.pointcloud.models.bev import folded
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.predict import Boxes, Detector, averaged
from vision.pointcloud.reading import Reading, read_as
from vision.pointcloud.rows import add_rows, largest_rows, take_rows
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.train import learn
from vision.pointcloud.write import write_scans

RUN = CliRunner()
RANGE_M = 28.0


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.set_num_threads(1)
    return Detector.open()


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(1_000_012, "hdl64", tilted=False)


@pytest.fixture(scope="module")
def found(detector: Detector, scan: Scan) -> Boxes:
    return near_cars(detector(Cloud(scan.points[:, :3], name="scan")))


def near_cars(boxes: Boxes) -> Boxes:
    keep = [n == "Car" and np.hypot(*b[:2]) < RANGE_M for n, b in zip(boxes.names, boxes.boxes, strict=True)]
    return boxes.having(np.array(keep, bool).reshape(-1))


def test_cars_of_an_unseen_scan_are_found(found: Boxes, scan: Scan) -> None:
    near = (
        (np.hypot(scan.boxes[:, 0], scan.boxes[:, 1]) < RANGE_M) & (scan.visible > 0.4) & (scan.counts > 30)
    )
    cars = scan.boxes[near & ((scan.kinds == 0) | (scan.kinds == 3))]
    assert len(cars) >= 3
    best = iou_bev(cars, found.boxes).max(1)
    assert (best > 0.5).mean() >= 0.7
    assert abs(found.boxes[:, 2] - found.boxes[:, 5] / 2 - found.ground.height(found.boxes)).max() < 0.8


def same_cars(ours: Boxes, wanted: np.ndarray, least: float = 0.7) -> None:
    """The same cars up to one that lies at the threshold."""
    assert abs(len(ours) - len(wanted)) <= max(1, len(wanted) // 8)
    overlap = iou_bev(wanted, ours.boxes)
    assert (overlap.max(1) > least).sum() >= len(wanted) - max(1, len(wanted) // 8)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_quarter_turn_changes_nothing(detector: Detector, scan: Scan, found: Boxes, quarter: int) -> None:
    """Detection turns each quadrant as training does, so no direction is special."""
    points = scan.points[:, :3].copy()
    xyz = turned_points(points, quarter)
    boxes = turned(found.boxes, quarter)
    same_cars(near_cars(detector(Cloud(xyz, name="turned"))), boxes)


def turned_points(points: np.ndarray, quarter: int) -> np.ndarray:
    boxes = np.column_stack([points, np.zeros((len(points), 4), np.float32)])
    return np.ascontiguousarray(turned(boxes, quarter)[:, :3])


def test_a_tilted_raised_scan_in_millimetres_gives_the_same_cars(
    detector: Detector, scan: Scan, found: Boxes, tmp_path: Path
) -> None:
    angle = np.radians(2)
    tilt = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    points = (scan.points[:, :3] @ tilt.T + [0, 0, 1.2]) * 1000
    np.save(tmp_path / "mm.npy", points.astype(np.float32))
    cloud = read_as(tmp_path / "mm.npy", Reading())
    assert "millimetres" in cloud.remarks[0]
    again = near_cars(detector(cloud))
    boxes = again.boxes.copy()
    boxes[:, :3] = (boxes[:, :3] - [0, 0, 1.2]) @ tilt
    same_cars(again.having(np.arange(len(again))), found.boxes, 0.0)
    assert (iou_bev(found.boxes, boxes).max(1) > 0.6).sum() >= len(found) - 1 - len(found) // 8


def test_a_file_with_z_along_another_axis_is_turned(scan: Scan, tmp_path: Path) -> None:
    np.save(tmp_path / "up.npy", scan.points[:, [0, 2, 1]] * [1, 1, -1])  # y is up
    cloud = read_as(tmp_path / "up.npy", Reading())
    np.testing.assert_allclose(cloud.points, scan.points[:, :3], atol=1e-3)


@pytest.mark.parametrize(
    "points",
    [np.zeros((0, 3)), np.array([[5.0, 1, 0]]), np.full((500, 3), 4.0), np.full((50, 3), 400.0)],
    ids=["none", "one", "equal", "outside"],
)
def test_hardly_any_points_are_answered(detector: Detector, points: np.ndarray) -> None:
    boxes = detector(Cloud(points.astype(np.float32), name="odd"))
    assert len(boxes) == 0
    assert json.dumps(boxes.as_dict())


def test_drawn_targets_decode_to_their_boxes() -> None:
    boxes = np.array([[12.0, 7.0, 0.8, 4.2, 1.8, 1.5, 0.4], [20.3, 15.1, 0.9, 0.8, 0.6, 1.7, -2.0]])
    heat, mask, numbers, weight = empty_targets(OUT_CELLS)
    draw_targets(boxes, np.array([0, 1]), -1.6, 0.4, heat, mask, numbers, weight)
    assert (heat == 1).sum() == 2
    assert numbers.shape[0] == NUMBERS
    logits = torch.logit(torch.from_numpy(heat).clamp(1e-4, 0.99))[None]
    numbers[8] -= 0.5  # a chance as the logit of its side
    (decoded, labels), *_ = decode_maps(logits, torch.from_numpy(numbers)[None], 0.9)
    order = np.argsort(labels[:, 1])
    np.testing.assert_allclose(decoded[order][:, :6], boxes[:, :6], atol=1e-4)
    np.testing.assert_allclose(np.cos(decoded[order][:, 6] - boxes[:, 6]), 1, atol=1e-4)


@pytest.mark.parametrize("heading", np.arange(-3.1, 3.2, 0.45))
def test_the_front_survives_the_targets_and_the_mirror_at_the_diagonal(heading: float) -> None:
    def maps(box: list[float]) -> tuple[Tensor, Tensor]:
        drawn = empty_targets(OUT_CELLS)
        draw_targets(np.array([box]), np.array([0]), LOW, 0.4, *drawn)
        drawn[2][8] -= 0.5
        return torch.logit(torch.from_numpy(drawn[0]).clamp(1e-4, 0.99)), torch.from_numpy(drawn[2])

    straight = maps([12.0, 7.1, 0.8, 4.2, 1.8, 1.5, heading])
    mirrored = maps([7.1, 12.0, 0.8, 4.2, 1.8, 1.5, math.pi / 2 - heading])
    heat, numbers = averaged(*(torch.stack(pair) for pair in zip(straight, mirrored, strict=True)))
    ((decoded, _),) = decode_maps(heat, numbers, 0.9)
    np.testing.assert_allclose(decoded[0, :6], [12.0, 7.1, 0.8, 4.2, 1.8, 1.5], atol=1e-3)
    assert math.cos(decoded[0, 6] - heading) > 0.999


def test_neutral_places_ask_nothing() -> None:
    heat, mask, numbers, weight = empty_targets(OUT_CELLS)
    draw_targets(
        np.array([[12.0, 7.0, 1, 4, 2, 1.5, 0.0]]), np.array([-1]), -1.6, 0.4, heat, mask, numbers, weight
    )
    assert heat.max() == 0
    assert 50 < (mask == 0).sum() < 90


def test_images_count_points_in_their_slices() -> None:
    points = torch.tensor([[5.0, 5.0, 0.3], [5.0, 5.0, 0.3], [5.0, 5.0, 1.5], [20.0, 1.0, 0.0], [99.0, 0, 0]])
    image = bev_image(points, torch.zeros(5, dtype=torch.int64), 1)
    assert image.shape == (1, CHANNELS, CELLS, CELLS)
    row = column = 33  # (5 + 1.6) / .2
    assert image[0, 1, row, column] == pytest.approx(0.5 + 0.25 * np.log(2))
    assert image[0, 6, row, column] == pytest.approx(0.5)
    assert image[0, 11, row, column] == pytest.approx(0.5)
    assert image[0, 14, int(1.6 / 0.2) + 5, 50] in (0.0, 1.0)


def test_crops_of_a_view_learn(scan: Scan) -> None:
    batch = batch_of(crops_of(view(scan, np.random.default_rng(0))))
    points, crop, count = batch.cloud(torch.device("cpu"))
    assert count == len(batch) <= 4
    assert len(points) == len(crop) == batch.sizes.sum()
    network = Detector.open("pointcloud-bev").network
    parts = learn(network, batch)
    assert parts["loss"].isfinite()


def test_batches_are_functions_of_their_generator() -> None:
    make = MakeCrops("vlp16", 1)
    one, same = (make(1, torch.Generator().manual_seed(5)) for _ in range(2))
    assert one.points.tobytes() == same.points.tobytes()
    assert one.heat.tobytes() == same.heat.tobytes()


def test_a_crop_has_the_sensor_in_its_corner() -> None:
    points = np.array([[10, 5, 0], [-10, 5, 0], [-10, -5, 0], [10, -5, 0]], np.float32)
    for turn in range(4):
        crop = crop_points(points, turn)
        assert len(crop) == 1
        assert sorted(crop[0, :2].tolist()) == [5, 10]


def test_matching_leaves_neutral_boxes_out() -> None:
    box = np.array([[10.0, 0, 0, 4, 2, 1.5, 0]])
    far, van, wrong = box.copy(), box.copy(), box.copy()
    far[0, 0], van[0, 1], wrong[0, 1] = 40, 8, -9
    detections = np.concatenate([box, van, far, wrong, box])
    frame = Frame(box, van, detections, np.array([0.9, 0.8, 0.7, 0.6, 0.5]))
    assert matched(frame, 0.5, range_m=30).tolist() == [1, -1, -1, 0, 0]
    recall, precision, counts = recall_precision([frame], 0.5, 0.55, 30)
    assert (recall, precision) == (1, 0.5)
    assert counts == {"truth": 1, "found": 1, "false": 1}
    assert average_precision([frame], 0.5) == pytest.approx(100)
    assert average_precision([Frame(van[:0], van, detections, frame.scores)], 0.5) is None


def test_a_box_is_looked_at_in_26_places() -> None:
    points = view_points(np.array([0.0, 0, 0, 4, 2, 1, 0]))
    assert points.shape == (26, 3)
    assert np.abs(points).max(0).tolist() == [2, 1, 0.5]


def test_the_hand_made_detector_finds_a_lone_car() -> None:
    examples = [e for e in generated(12, "hdl64", first=50) if (np.array(e.truth.names) == "Car").sum() > 2]
    boxes = hand_made(examples[0].cloud)
    assert len(boxes) > 0
    assert set(boxes.names) == {"Car"}


@pytest.mark.parametrize("layout", ["kitti", "labels"])
def test_simulated_folders_are_read_back(layout: str, tmp_path: Path) -> None:
    write_scans(tmp_path, 2, "vlp16", layout, 1)
    again = tmp_path / "again"
    write_scans(again, 2, "vlp16", layout, 1)
    for path in sorted(p for p in tmp_path.iterdir() if p.is_file() and p.suffix != ".npz"):
        assert path.read_bytes() == (again / path.name).read_bytes()
    paths, without = find_examples(again, layout)
    assert (len(paths), without) == (2, 0)
    example = read_example(paths[0], layout)
    assert len(example.truth) > 0
    assert len(example.cloud) == len(read_cloud(paths[0]))


def test_the_command_writes_boxes_and_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    write_scans(tmp_path / "in", 1, "vlp16", "labels", 2)
    (tmp_path / "in" / "bad.npz").write_bytes(b"PK nothing")
    answer = RUN.invoke(app, ["detect", str(tmp_path / "in" / "000000.npz"), "--json", "-"])
    assert answer.exit_code == 0, answer.output
    result = json.loads(answer.stdout)
    assert set(result) >= {"boxes", "ground", "seconds"}
    words = ["detect", str(tmp_path / "in" / "bad.npz"), str(tmp_path / "in" / "000000.npz")]
    answer = RUN.invoke(app, [*words, "-o", str(tmp_path / "out"), "--format", "kitti"])
    assert answer.exit_code == 2
    assert (tmp_path / "out" / "000000.txt").is_file()


def test_evaluate_has_the_shape_of_the_house(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    answer = RUN.invoke(
        app, ["evaluate", "1", "--format", "synthetic", "--sensor", "vlp16", "--json", str(target)]
    )
    assert answer.exit_code == 0, answer.output
    report = json.loads(target.read_text())
    assert report["n"] == len(report["items"]) == 1
    assert set(report["baselines"]) == {"hand_made", "bev"}
    names = {"gt30m", "recall30m@0.3", "recall30m@0.5", "precision30m@0.5", "bev@0.5", "3d@0.25", "3d@0.7"}
    for kind in ("Car", "Pedestrian", "Cyclist"):
        assert names <= set(report["model"][kind])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["detect", "nowhere.bin"], "nowhere.bin"),
        (["detect", "x.bin", "--format", "xml"], "no format 'xml'"),
        (["detect", "x.bin", "--score", "Bus=.3"], "--score"),
        (["detect", "x.bin", "--axes", "xxy"], "--axes"),
        (["detect", "x.bin", "--unit", "inf"], "--unit is metres"),
        (["detect", "x.bin", "--ego", "nan,2"], "--ego wants a length"),
        (["detect", "x.bin", "--ego", "4"], "--ego wants length,width"),
        (["detect", "x.bin", "--range", "nan"], "--range is metres"),
        (["detect", "x.bin", "--z-offset", "inf"], "--z-offset is metres"),
        (["detect", "x.bin", "--track", "inf"], "--track is scans a second"),
        (["detect", "x.bin", "--weights", "pointcloud-huge"], "pointcloud-huge"),
        (["evaluate", ".", "--format", "coco"], "no format 'coco'"),
        (["simulate", "-o", "out", "--sensor", "sonar"], "no sensor 'sonar'"),
        (["train", "--set", "model.groups=[1]"], "model.groups"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = RUN.invoke(app, words)
    assert answer.exit_code != 0
    assert sentence in f"{answer.exception} {answer.output}"


def test_operators_are_measured_side_by_side() -> None:
    answer = RUN.invoke(app, ["operators", "--width", "16", "--tokens", "128", "--json", "-"])
    assert answer.exit_code == 0, answer.output
    rows = {row["operator"]: row for row in json.loads(answer.stdout)["operators"]}
    assert {"min_gru", "gru", "Mamba", "RWKV", "RetNet", "xLSTM", "TTT"} <= set(rows)
    assert rows["min_gru"]["of_min_gru"] == 1
    assert rows["Mamba"]["parameters"] > rows["min_gru"]["parameters"]


def test_folding_norms_into_their_layers_changes_no_answer() -> None:
    torch.manual_seed(0)
    network = build_network(ModelConfig(dim=8, width=8, deep=8, depth=1)).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
            part.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    points = torch.rand(800, 3) * torch.tensor([30.0, 30, 3])
    given = (points, torch.zeros(800, dtype=torch.long), 1)
    with torch.no_grad():
        before = network(*given)
        after = folded(network)(*given)
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in network.modules())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_rows_are_taken_added_and_maximised_alike_by_loops_and_by_tensor_code() -> None:
    x, rows = torch.randn(6, 4), torch.tensor([5, 0, 5, 2])
    wide = torch.randn(6, 8)[:, ::2]  # not contiguous: tensor code
    assert torch.equal(take_rows(x, rows), x[rows])
    assert torch.equal(take_rows(wide, rows), wide[rows])
    y, z = torch.zeros(6, 4), torch.zeros(6, 8)[:, ::2]
    add_rows(y, rows, x[:4])
    add_rows(z, rows, x[:4])
    torch.testing.assert_close(y, z)
    asked = x.abs().requires_grad_()
    torch.testing.assert_close(largest_rows(x.abs()[:4], rows, 6), largest_rows(asked[:4], rows, 6).detach())
