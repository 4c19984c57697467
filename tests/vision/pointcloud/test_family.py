"""Backbones of the family: what must hold for all of them, whatever runs along their orders."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from vision.pointcloud.cli import app
from vision.pointcloud.comparison import Plan, lines_of, network_of
from vision.pointcloud.config import ORDERS, PRESETS, ModelConfig, TrainConfig, preset
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.models.lion import LIONLayer
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.models.unimamba import UniMambaBlock, pieces
from vision.pointcloud.voxels import Voxels
from vision.pointcloud.windows import order_of

SMALL = ModelConfig(dim=8, layers=16, groups=(64, 64, 64), width=8, deep=8, depth=1)
BACKBONES = ("lion", "voxel_mamba", "unimamba", "bev")


def voxels_of(count: int, shape: tuple[int, int, int], batch: int = 1, width: int = 8) -> Voxels:
    generator = torch.Generator().manual_seed(count)
    cells = torch.stack([torch.randint(n, (count,), generator=generator) for n in (batch, *shape)], 1)
    coords = cells.unique(dim=0)
    return Voxels(torch.randn(len(coords), width, generator=generator), coords, shape, batch)


def scene(points: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(points, 3, generator=generator)
    return place * torch.tensor([40.0, 40.0, 3.0])


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("shift", [False, True])
def test_an_order_is_a_permutation_up_to_the_border(name: str, shift: bool) -> None:
    full = torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(9), torch.arange(7))
    voxels = Voxels(torch.zeros(len(full), 1), full, (5, 9, 7), 2)
    order = order_of(voxels, (4, 4, 4), shift, name)
    assert order.sort().values.equal(torch.arange(len(full)))
    sample = full[order, 0]
    assert (sample[1:] >= sample[:-1]).all()  # one sample after the other


@pytest.mark.parametrize("name", ORDERS)
def test_a_group_as_long_as_the_sample_is_no_group(name: str) -> None:
    torch.manual_seed(0)
    voxels = voxels_of(150, (4, 16, 16))
    layer = LIONLayer(lambda: build_operator("min_gru", 8), (5, 5, 4), len(voxels), False, (name,))
    none = LIONLayer(lambda: build_operator("min_gru", 8), (5, 5, 4), 0, False, (name,))
    none.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(voxels).features, none(voxels).features)


def test_windows_larger_than_the_scene_are_the_scene() -> None:
    torch.manual_seed(0)
    voxels = voxels_of(200, (4, 16, 16), batch=2)
    assert pieces(voxels, "z", 99)[1].equal(pieces(voxels, "z", 0)[1])
    assert len(pieces(voxels, "z", 4)[1]) > 2
    near = UniMambaBlock(8, 99, lambda width: build_operator("min_gru", width)).eval()
    near.quarters[1].load_state_dict(near.quarters[0].state_dict())
    plan = pieces(voxels, "z", 99)
    from vision.pointcloud.models.unimamba import through

    x = torch.randn(len(voxels), 2)
    whole, cut = (through(x, *plan, near.quarters[k]) for k in (0, 1))
    torch.testing.assert_close(whole, cut)


def test_a_piece_knows_nothing_of_the_pieces_beside_it() -> None:
    torch.manual_seed(0)
    voxels = voxels_of(200, (4, 16, 16))
    from vision.pointcloud.models.unimamba import through

    order, lengths = pieces(voxels, "z-trans", 4)
    operator = build_operator("gru", 8).eval()
    x = voxels.features
    first = order[: int(lengths[0])]
    other = x.clone()
    other[order[int(lengths[0]) :]] += 1
    one, two = through(x, order, lengths, operator), through(other, order, lengths, operator)
    torch.testing.assert_close(one[first], two[first])


@pytest.mark.parametrize("name", ["Mamba", "gru", "min_gru", "mlstm"])
def test_an_operator_answers_the_same_without_gradients(name: str) -> None:
    torch.manual_seed(0)
    operator, filled = build_operator(name, 16).eval(), torch.tensor([37, 20, 1])
    x = torch.randn(3, 37, 16)
    wanted = operator(x, filled)
    with torch.no_grad():
        found = operator(x, filled)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_points_in_another_order_give_the_same_maps(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, backbone=backbone)).eval()  # pyright: ignore[reportArgumentType]
    points = scene(800, 1)
    crop = torch.zeros(800, dtype=torch.int64)
    shuffled = points[torch.randperm(800, generator=torch.Generator().manual_seed(2))]
    with torch.no_grad():
        one, two = network(points, crop, 1), network(shuffled, crop, 1)
    torch.testing.assert_close(one[0], two[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one[1], two[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_batch_of_two_is_two_batches_of_one(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, backbone=backbone)).eval()  # pyright: ignore[reportArgumentType]
    a, b = scene(500, 3), scene(700, 4)
    crop = torch.tensor([0] * 500 + [1] * 700)
    with torch.no_grad():
        both = network(torch.cat([a, b]), crop, 2)[0]
        alone = [network(part, torch.zeros(len(part), dtype=torch.int64), 1)[0] for part in (a, b)]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES[:3])
def test_every_part_of_a_backbone_learns_and_an_empty_cloud_answers(backbone: str) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, backbone=backbone, operator="gru", recompute=True)  # pyright: ignore[reportArgumentType]
    network = build_network(config)
    heat, numbers = network(scene(600, 5), torch.zeros(600, dtype=torch.int64), 1)
    (heat.square().mean() + numbers.square().mean()).backward()
    without = [name for name, part in network.named_parameters() if part.grad is None]
    assert not without
    with torch.no_grad():
        heat, _ = network.eval()(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 1)
    assert heat.isfinite().all()


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("change", [{}, {"backbone": "unimamba", "operator": "gru"}])
def test_presets_build_with_any_backbone(name: str, change: dict[str, str]) -> None:
    config = preset(TrainConfig(preset=name))  # pyright: ignore[reportArgumentType]
    with torch.device("meta"):
        network = build_network(replace(config.model, **change))  # pyright: ignore[reportArgumentType]
    assert sum(part.numel() for part in network.parameters()) > 300_000


def test_a_setting_beside_a_preset_wins_and_the_rest_is_the_presets() -> None:
    model = preset(TrainConfig(preset="kitti", model=ModelConfig(operator="gru"))).model
    assert model == replace(PRESETS["kitti"], operator="gru")
    assert preset(TrainConfig(preset="own", model=SMALL)).model == SMALL


def test_settings_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.orders"):
        replace(SMALL, orders=("spiral",))
    with pytest.raises(ConfigError, match="voxel_mamba"):
        build_network(replace(SMALL, backbone="voxel_mamba", layers=32))
    with pytest.raises(ConfigError, match="in four"):
        build_network(replace(SMALL, backbone="unimamba", dim=10))


def test_the_table_of_operators_wants_a_measure_and_known_names() -> None:
    with pytest.raises(ConfigError, match="minutes, steps"):
        Plan(None, None, 1, ("min_gru",))
    with pytest.raises(ConfigError, match="Transformer"):
        Plan(None, 1, 1, ("Transformer",))
    assert network_of("bev", "gru").backbone == "bev"
    assert network_of("unimamba", "gru") == replace(ModelConfig(), backbone="unimamba", operator="gru")
    row = {
        "name": "gru", "by": "steps", "steps": 3, "step_ms": 4.0, "parameters": 9, "kept_mb": 1.0, "ms": 2.0,
        "bev@0.5": None, "3d@0.7": 1.0, "real": {"kitti": {"recall30m@0.5": 0.5, "precision30m@0.5": None}},
    }  # fmt: skip
    assert "kitti 0.50/-" in lines_of([row])[1]


@pytest.mark.slow
def test_operators_are_trained_side_by_side_and_not_again(tmp_path: Path) -> None:
    words = ["operators", "--steps", "2", "--scans", "1", "--only", "min_gru,bev", "--out", str(tmp_path)]
    for _ in range(2):
        answer = CliRunner().invoke(app, [*words, "--json", "-"])
        assert answer.exit_code == 0, answer.output
        rows = json.loads(answer.stdout)["rows"]
        assert [row["name"] for row in rows] == ["min_gru", "bev"]
        assert all(row["steps"] == 2 and row["kept_mb"] > 1 for row in rows)
