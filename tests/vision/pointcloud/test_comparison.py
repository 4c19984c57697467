"""Rows of the table of operators, and scans that several runs share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ConfigError, WeightsError
from core.weights import load
from vision.pointcloud import comparison
from vision.pointcloud.comparison import Plan, Scored, compare
from vision.pointcloud.config import DataConfig, TrainConfig
from vision.pointcloud.crops import MakeCrops
from vision.pointcloud.loss import focal_loss, weighed
from vision.pointcloud.synth.kept import kept_scan, made_scan


def test_a_kept_scan_is_the_one_that_was_made(tmp_path: Path) -> None:
    made = made_scan(7, "vlp16")
    first = kept_scan(7, "vlp16", 1, tmp_path)
    again = kept_scan(7, "vlp16", 1, tmp_path)
    (file,) = tmp_path.iterdir()
    for scan in (first, again):
        for name in ("points", "ring", "time", "owner", "boxes", "kinds", "visible", "numbers"):
            assert np.array_equal(getattr(scan, name), getattr(made, name)), name
        assert scan.names() == made.names()
        assert scan.sensor.height == made.sensor.height
        assert scan.velocity is None
    file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(kept_scan(7, "vlp16", 1, tmp_path).points, made.points)
    assert np.array_equal(kept_scan(7, "vlp16", 1, tmp_path).points, made.points)


def test_a_pool_draws_few_scans_and_sees_each_in_many_ways(tmp_path: Path) -> None:
    make = MakeCrops("vlp16", 1, pool=1, store=str(tmp_path))
    one = make(1, torch.Generator().manual_seed(0))
    other = make(1, torch.Generator().manual_seed(1))
    same = MakeCrops("vlp16", 1, pool=1)(1, torch.Generator().manual_seed(0))
    assert len(list(tmp_path.iterdir())) == 1
    assert not np.array_equal(one.points[:500], other.points[:500])
    assert np.array_equal(one.points, same.points)
    with pytest.raises(ConfigError, match="pool"):
        DataConfig(store="folder")


def test_crops_without_a_rider_may_be_left_out() -> None:
    batch = MakeCrops("vlp16", 1, riderless=0.0)(1, torch.Generator().manual_seed(5))
    assert (batch.heat[:, 2] == 1).reshape(len(batch), -1).any(1).all()
    with pytest.raises(ConfigError, match="riderless"):
        DataConfig(riderless=1.5)


def test_classes_count_by_their_balance() -> None:
    logits = torch.zeros(1, 3, 4, 4)
    heat, mask = torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    heat[0, 1, 2, 3] = 1
    parts = [focal_loss(logits, heat, mask, [float(k == kind) for k in range(3)]) for kind in range(3)]
    assert torch.stack(parts).sum() == pytest.approx(focal_loss(logits, heat, mask).item())
    doubled = focal_loss(logits, heat, mask, (1.0, 2.0, 1.0))
    assert doubled == pytest.approx((focal_loss(logits, heat, mask) + parts[1]).item())
    cells = torch.tensor([2 * 4 + 3, 0])
    assert weighed(torch.tensor([1.0, 0.5]), heat, cells, (1.0, 3.0, 1.0)).tolist() == [3.0, 0.5]
    with pytest.raises(ConfigError, match="balance"):
        TrainConfig(balance=(1.0, 0.0, 1.0))


@pytest.mark.slow
def test_a_race_by_steps_gives_rows_and_goes_on_from_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "HARD", 1)
    plan = Plan(None, 1, 1, ("min_gru", "bev"))
    out = tmp_path / "race"
    (one, other) = compare(plan, out)
    assert [row["name"] for row in (one, other)] == ["min_gru", "bev"]
    assert one["steps"] == other["steps"] == 1
    assert one["operator"] == "min_gru"
    assert other["backbone"] == "bev"
    assert one["parameters"] > other["parameters"] > 1e5
    weights = load(out / "min_gru-steps.safetensors")[0]
    (out / "min_gru-steps.json").unlink()
    (again, _) = compare(plan, out)
    later = load(out / "min_gru-steps.safetensors")[0]
    assert all(torch.equal(weights[name], later[name]) for name in weights)
    assert {**again, "ms": 0} == {**one, "ms": 0}
    assert json.loads((out / "min_gru-steps.json").read_text())["by"] == "steps"


def test_weights_of_no_race_are_refused() -> None:
    from core.weights import find

    with pytest.raises(WeightsError, match="no weights of a race"):
        Scored(Plan(None, 1, 1, ("bev",)), []).row(find("pointcloud-bev"), "cpu")
