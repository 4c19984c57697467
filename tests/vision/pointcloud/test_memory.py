"""The memory over sweeps: what it carries, what it learns from, how it is asked."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import ConfigError, DataError
from vision.pointcloud.assign import CAR, NEUTRAL
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import ModelConfig, TrainConfig
from vision.pointcloud.drives import Level, MakeDrives, between, learn_drive, remembered, turned_motion
from vision.pointcloud.hidden import hidden_report, matching_threshold
from vision.pointcloud.metrics import Frame
from vision.pointcloud.models.bev import CropDetector
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.models.memory import SweepMemory, carried
from vision.pointcloud.poses import Pose
from vision.pointcloud.predict import THRESHOLDS, Detector
from vision.pointcloud.remember import Remembering
from vision.pointcloud.train import train

SMALL = ModelConfig(backbone="bev", width=8, deep=8, depth=1, memory="min_gru")


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(build_network(SMALL), THRESHOLDS, "small")


@pytest.fixture
def cloud() -> Cloud:
    points = np.random.default_rng(0).uniform(-30, 30, (4000, 3)).astype(np.float32)
    points[:, 2] = 0.05 * points[:, 2] - 1.0
    return Cloud(points, name="noise")


@pytest.mark.parametrize("unit", ["min_gru", "gru", "lstm", "hgrn"])
def test_a_fresh_memory_changes_nothing(unit: str) -> None:
    memory = SweepMemory(unit, 4, 0.4, -1.6)
    x, motion = torch.randn(2, 4, 8, 8), torch.tensor([[0.3, 0.1, 0.02]] * 2)
    state = None
    for _ in range(3):
        y, speed, state = memory(x, state, motion)
        torch.testing.assert_close(y, x)
    assert speed.shape == (2, 2, 8, 8)


def test_what_a_cell_held_goes_where_the_world_went() -> None:
    memory = SweepMemory("min_gru", 1, 0.4, -1.6)
    held = torch.zeros(1, 6, 6)
    held[0, 2, 4] = 1.0  # y 2, x 4
    places = memory.places(torch.Size([1, 1, 6, 6]), torch.tensor([[0.8, -0.4, 0.0]]))
    moved = carried(held.view(36, 1), torch.Size([1, 1, 6, 6]), places).view(6, 6)
    wanted = torch.zeros(6, 6)
    wanted[3, 2] = 1.0  # the vehicle went two cells ahead and one to the right
    torch.testing.assert_close(moved, wanted, atol=1e-5, rtol=0)


def test_a_quarter_turn_of_the_vehicle_turns_the_map() -> None:
    memory = SweepMemory("min_gru", 1, 0.4, -1.2)  # the sensor in the middle of 6 x 6
    held = torch.rand(6, 6)
    places = memory.places(torch.Size([1, 1, 6, 6]), torch.tensor([[0.0, 0.0, math.pi / 2]]))
    moved = carried(held.view(36, 1), torch.Size([1, 1, 6, 6]), places).view(6, 6)
    for y in range(6):
        for x in range(6):
            assert moved[y, x].item() == pytest.approx(held[x, 5 - y].item(), abs=1e-4)


def test_motions_are_between_poses_and_turn_with_their_quadrant() -> None:
    old, new = np.array([10.0, 5.0, math.pi / 2]), np.array([10.0, 7.0, math.pi / 2 + 0.1])
    np.testing.assert_allclose(between(old, new), [2.0, 0.0, 0.1], atol=1e-12)
    np.testing.assert_allclose(turned_motion(np.array([2.0, 0.5, 0.1]), 1), [0.5, -2.0, 0.1])


def test_a_car_that_was_seen_stays_a_target() -> None:
    def level(kinds: list[int]) -> Level:
        return Level(np.zeros((0, 3)), np.zeros((2, 9)), np.array(kinds), np.array([7, 9]), np.zeros(3))

    rows = remembered([level([NEUTRAL, NEUTRAL]), level([CAR, NEUTRAL]), level([NEUTRAL, NEUTRAL])])
    assert [row.tolist() for row in rows] == [[NEUTRAL, NEUTRAL], [CAR, NEUTRAL], [CAR, NEUTRAL]]


def test_only_the_memory_learns_from_a_drive() -> None:
    network = build_network(SMALL)
    batch = MakeDrives("vlp16", 2)(1, torch.Generator().manual_seed(3))
    assert len(batch) == 8
    assert batch.motions.shape == (2, 8, 3)
    for name, part in network.named_parameters():
        part.requires_grad_(name.startswith("memory"))
    parts = learn_drive(network, batch)
    parts["loss"].backward()
    assert set(parts) == {"loss", "focal", "l1", "front", "speed"}
    assert network.get_parameter("memory.back.weight").grad is not None
    assert network.get_parameter("memory.speed.weight").grad.abs().sum() > 0  # pyright: ignore


def states(memory: Remembering) -> list[Tensor]:
    held, now = memory.state
    return [held, now]


def test_a_saved_state_goes_on_with_the_same_bits(detector: Detector, cloud: Cloud) -> None:
    one, other = Remembering(detector), Remembering(detector)
    for step in range(3):
        one(cloud, Pose(0.1 * step, 0.3 * step, 0.0, 0.01 * step))
    other.from_dict(one.as_dict())
    last = Pose(0.3, 1.0, 0.1, 0.03)
    one(cloud, last)
    other(cloud, last)
    for a, b in zip(states(one), states(other), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(DataError, match="not the state of a memory"):
        other.from_dict({"state": None})


def test_reset_is_a_fresh_start_and_sweeps_leave_nothing_behind(detector: Detector, cloud: Cloud) -> None:
    memory = Remembering(detector)
    first = memory(cloud)
    sizes = [part.shape for part in states(memory)]
    for _ in range(3):
        memory(cloud)
    assert [part.shape for part in states(memory)] == sizes
    memory.reset()
    again = memory(cloud)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert again.velocity is not None
    assert again.velocity.shape == (len(again), 2)


def test_weights_without_a_memory_say_so() -> None:
    plain = Detector(build_network(ModelConfig(backbone="bev", width=8, deep=8, depth=1)), THRESHOLDS, "x")
    assert isinstance(plain.network, CropDetector)
    with pytest.raises(ConfigError, match="x has no memory"):
        Remembering(plain)


def test_a_memory_wants_a_finished_detector(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give its weights with --start"):
        train(TrainConfig(preset="own", model=SMALL), tmp_path / "run")


def test_the_threshold_of_equal_precision() -> None:
    truth = np.array([[10.0, 0, 0, 4, 2, 1.5, 0], [20.0, 0, 0, 4, 2, 1.5, 0]])
    found = np.vstack([truth, [[15.0, 9, 0, 4, 2, 1.5, 0]]])
    frames = [Frame(truth, np.zeros((0, 7)), found, np.array([0.9, 0.3, 0.5]))]
    assert matching_threshold(frames, 0.9, 0.4) == 0.9
    assert matching_threshold(frames, 0.6, 0.4) == 0.3


def test_the_report_counts_hidden_cars(detector: Detector) -> None:
    report = hidden_report(detector, 1, 2, "vlp16")
    assert report["single"]["cars"] == report["memory"]["cars"]
    assert report["single"]["hidden"] <= report["single"]["cars"]
