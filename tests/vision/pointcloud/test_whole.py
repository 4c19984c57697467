"""The whole detector with sizes that never change: the answer of the detector, in torch and as ONNX."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from vision.pointcloud.config import ModelConfig
from vision.pointcloud.export import export_whole
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.predict import THRESHOLDS, Detector
from vision.pointcloud.whole import NONE, Whole, distinct, filled_up, scan


def small(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(dim=8, width=8, deep=8, depth=1, **settings)  # pyright: ignore[reportArgumentType]
    network = build_network(config).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):  # statistics as after a training
            part.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
            part.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return network


def crop(points: int) -> Tensor:
    generator = torch.Generator().manual_seed(points)
    return torch.rand(points, 3, generator=generator) * torch.tensor([30.0, 30, 3]) - 1


@pytest.mark.parametrize("unit", ["min_gru", "min_lstm"])
@pytest.mark.parametrize("points", [0, 1, 700, 1500])
def test_the_answer_is_that_of_the_detector(unit: str, points: int) -> None:
    network = small(operator=unit)
    given = crop(points)
    with torch.no_grad():
        wanted = network(given, torch.zeros(points, dtype=torch.long), 1)
        found = Whole(network, 2048)(filled_up(given, 1600))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_distinct_keys_come_in_order_and_what_has_no_room_has_the_last_place() -> None:
    found, place = distinct(torch.tensor([7, 3, NONE, 7, 9, 3]), 4)
    assert found.tolist() == [3, 7, 9, NONE]
    assert place.tolist() == [1, 0, 4, 1, 2, 0]
    found, place = distinct(torch.tensor([7, 3, NONE, 7, 9, 3]), 2)
    assert found.tolist() == [3, 7]
    assert place.tolist() == [1, 0, 2, 1, 2, 0]


@pytest.mark.parametrize("time", [1, 2, 5, 64])
def test_a_doubling_scan_is_the_recurrence(time: int) -> None:
    a, b = torch.rand(2, time, 3, dtype=torch.float64), torch.randn(2, time, 3, dtype=torch.float64)
    h, rows = torch.zeros(2, 3, dtype=torch.float64), []
    for step in range(time):
        h = a[:, step] * h + b[:, step]
        rows.append(h)
    torch.testing.assert_close(scan(a, b), torch.stack(rows, 1))


def test_what_does_not_become_a_graph_is_named() -> None:
    with pytest.raises(ConfigError, match="does not become a graph"):
        Whole(small(operator="gru"))
    with pytest.raises(ConfigError, match="groups that divide 2,000"):
        Whole(small(), 2000)
    with pytest.raises(ConfigError, match="this is none"):
        Whole(small(backbone="bev"))
    with pytest.raises(ConfigError, match="no room in a graph of 10"):
        filled_up(crop(11), 10)


@pytest.mark.slow
def test_the_graph_answers_as_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector = Detector(small(), THRESHOLDS, "small")
    worst = export_whole(detector, tmp_path / "whole.onnx", 4096, 2048)
    assert worst < 1e-4
    assert (tmp_path / "whole.onnx").stat().st_size > 100_000
