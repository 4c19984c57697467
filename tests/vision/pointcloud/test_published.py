"""Whole published detectors: what they are named after, what their heads learn, what is odd about labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from vision.pointcloud.cli import app
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.formats.labels import Truth
from vision.pointcloud.labelled import about_labels
from vision.pointcloud.models.center_head import CenterHead
from vision.pointcloud.models.published import OPERATORS, TABLES, PublishedLION, build_published, recognise
from vision.pointcloud.synth.scan import simulate

BOUNDS, VOXEL = (0.0, -8.0, -3.0, 16.0, 8.0, 1.0), (0.5, 0.5, 4.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_weights_in_the_published_layout_are_named_and_every_key_is_accounted_for(operator: str) -> None:
    with torch.device("meta"):
        tensors = build_published("waymo", operator, 32).state_dict()
    found = recognise({f"module.{name}": value for name, value in tensors.items()})
    assert (found.what, found.operator, found.dim, found.table) == ("LION", operator, 32, "waymo")
    assert (found.missing, found.unknown, found.unfit) == ((), (), ())
    assert {"vfe", "backbone_3d", "backbone_2d", "dense_head"} == set(found.parts)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_tables_are_told_apart(table: str) -> None:
    with torch.device("meta"):
        tensors = build_published(table, "Mamba", 32).state_dict()
    assert recognise(tensors).table == table
    tensors.pop("backbone_2d.blocks.0.1.weight", None)
    tensors["dense_head.strange"] = torch.zeros(1)
    assert "dense_head.strange" in recognise(tensors).unknown


def test_parameters_of_the_backbone_are_those_that_were_counted() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in build_published("kitti", name).backbone_3d.parameters())
            for name in ("Mamba", "RetNet", "xLSTM", "TTT", "RWKV")
        }
    wanted = {"Mamba": 2.76, "RetNet": 3.34, "xLSTM": 3.48, "TTT": 2.82, "RWKV": 4.33}
    assert {name: round(count / 1e6, 2) for name, count in counts.items()} == pytest.approx(wanted, abs=0.011)


def test_other_weights_are_told_from_lion(tmp_path: Path) -> None:
    assert recognise({"x.weight": torch.zeros(2)}).what.startswith("no detector")
    assert "backbone_2d" in recognise({"backbone_2d.blocks.0.weight": torch.zeros(2)}).what
    mamba = {"backbone_3d.block_list.0.mamba_encoder_list.0.norm.weight": torch.zeros(2)}
    assert recognise(mamba).what == "Voxel Mamba"
    with pytest.raises(ConfigError, match="no published detector"):
        build_published("lyft")
    path = tmp_path / "some.pth"
    torch.save({"model_state": mamba}, path)
    answer = CliRunner().invoke(app, ["info", str(path)])
    assert answer.exit_code == 0, answer.output
    assert "Voxel Mamba" in answer.stdout


def test_a_published_detector_answers_on_a_small_scan() -> None:
    torch.manual_seed(0)
    near = replace(TABLES["kitti"], bounds=(0, -6.4, -3, 12.8, 6.4, 1))
    network = PublishedLION(near, "Mamba", 16).eval()
    points = torch.rand(300, 4) * torch.tensor([12.0, 12.0, 3.0, 1.0]) - torch.tensor([0.0, 6.0, 2.5, 0.0])
    with torch.no_grad():
        logits, codes, _ = network(points, torch.zeros(300, dtype=torch.int64), 1)
    assert logits.shape == (1, 64 * 64 * 6, 3)
    assert codes.isfinite().all()


def head(**branches: int) -> CenterHead:
    torch.manual_seed(0)
    every = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, **branches}
    return CenterHead(8, 2, BOUNDS, VOXEL, branches=every)


def test_velocity_and_overlap_have_targets_and_come_back() -> None:
    model = head(vel=2, iou=1).eval()
    truth = torch.tensor([[[5.2, 1.3, -1.0, 4.0, 2.0, 1.5, 0.4, 3.0, -1.0, 1.0]]])
    targets = model.targets(truth, (32, 32))
    maps = model(torch.randn(1, 8, 32, 32))
    cell = int(targets.cells[0, 0])
    perfect = {name: value.detach().clone() for name, value in maps.items()}
    places = {"center": [0, 1], "center_z": [2], "dim": [3, 4, 5], "rot": [6, 7], "vel": [8, 9]}
    for name, columns in places.items():
        for k, column in enumerate(columns):
            perfect[name].view(1, len(columns), -1)[0, k, cell] = targets.boxes[0, 0, column]
    perfect["hm"].fill_(-9).view(1, 2, -1)[0, 0, cell] = 9.0
    perfect["iou"].fill_(1.0)
    losses = model.loss(perfect, targets)
    assert losses["place"].item() == pytest.approx(0, abs=1e-6)
    assert losses["iou"].item() == pytest.approx(0, abs=1e-3)
    boxes, scores, kinds = model.decode(perfect)[0]
    torch.testing.assert_close(boxes[0], truth[0, 0, :9], atol=1e-4, rtol=1e-4)
    assert int(kinds[0]) == 0
    sure = scores[0].item()
    perfect["iou"].fill_(-1.0)
    assert model.decode(perfect)[0][1][0].item() < 0.1 < sure
    model.loss(model.train()(torch.randn(2, 8, 32, 32)), model.targets(truth.repeat(2, 1, 1), (32, 32)))[
        "loss"
    ].backward()
    assert all(part.grad is not None for part in model.parameters())


def test_labels_of_a_scan_without_faults_have_no_remarks() -> None:
    scan = simulate(1_000_012, "hdl64", tilted=False)
    keep = scan.counts > 0
    truth = Truth(scan.boxes[keep].astype(float), tuple(np.array(scan.names(), object)[keep]))
    cloud = Cloud(scan.points[:, :3], name="scan")
    assert about_labels(cloud, truth)["remarks"] == []
    swapped = truth.boxes.copy()
    swapped[:, 3:6] = swapped[:, [5, 3, 4]]
    remarks = " ".join(about_labels(cloud, Truth(swapped, truth.names))["remarks"])
    assert "read as width, height, length" in remarks
    turned = truth.boxes.copy()
    turned[:, 0], turned[:, 1] = truth.boxes[:, 1], -truth.boxes[:, 0]
    turned[:, 6] -= np.pi / 2
    assert "turned by 90 degrees" in " ".join(about_labels(cloud, Truth(turned, truth.names))["remarks"])
    low = truth.boxes.copy()
    low[:, 2] -= low[:, 5] / 2
    assert "bottom" in " ".join(about_labels(cloud, Truth(low, truth.names))["remarks"])
