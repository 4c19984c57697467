"""What detection on a CPU does in compiled loops agrees with the tensor code that defines it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.kernels.jit import pool
from vision.pointcloud.columns import spread
from vision.pointcloud.features import bev_image, looped_image, tensor_image
from vision.pointcloud.models.bev import folded
from vision.pointcloud.models.operators.both_ways import mirrored, turned_round
from vision.pointcloud.predict import side_by_side
from vision.pointcloud.voxels import DynamicVoxels, Voxels, from_above_as_stored
from vision.pointcloud.windows import window_key, window_order

BOUNDS = (-1.6, -1.6, -0.6, 11.2, 11.2, 3.4)


def points(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Places (N, 3), some beyond every border, and their crops (N,)."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([16.0, 16.0, 8.0]) - torch.tensor(
        [3.0, 3.0, 1.0]
    )
    return xyz, torch.randint(0, 2, (count,), generator=generator)


@pytest.fixture
def voxels() -> Voxels:
    xyz, crop = points(3000)
    layers = DynamicVoxels(4, (8,), (0.4, 0.4, 0.25), BOUNDS).eval()
    with torch.no_grad():
        return layers(torch.cat([xyz, xyz[:, :1]], 1), crop, 2)


@torch.no_grad()
def test_the_image_of_a_loop_is_that_of_tensors() -> None:
    xyz, crop = points(4000)
    wanted = tensor_image(xyz, crop, 2)
    torch.testing.assert_close(looped_image(xyz, crop, 2), wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(bev_image(xyz, crop, 2), wanted, atol=1e-6, rtol=1e-6)
    nothing = bev_image(xyz[:0], crop[:0], 1)
    assert nothing[:, :13].abs().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("filters", [(8,), (8, 6), (8, 6, 4)])
def test_voxels_of_a_loop_are_those_of_tensors(filters: tuple[int, ...]) -> None:
    xyz, crop = points(3000)
    channels = torch.cat([xyz, xyz.norm(dim=1, keepdim=True)], 1)
    layers = DynamicVoxels(4, filters, (0.4, 0.4, 0.25), BOUNDS).eval()
    for layer in layers.pfn_layers:
        norm = layer.norm
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.running_mean is not None
        norm.running_mean.normal_()
        norm.bias.normal_()
    wanted = layers(channels, crop, 2)
    assert not layers.may_loop(channels, 2)  # the norms are not folded yet
    folded(nn.ModuleList([layers]))
    assert layers.may_loop(channels, 2)
    found = layers(channels, crop, 2)
    assert torch.equal(found.coords, wanted.coords)
    torch.testing.assert_close(found.features, wanted.features, atol=1e-5, rtol=1e-5)
    assert len(layers(channels[:0], crop[:0], 2)) == 0


@pytest.mark.parametrize("cell", [0.4, 0.1])
def test_means_of_a_loop_are_those_of_tensors(cell: float, monkeypatch: pytest.MonkeyPatch) -> None:
    xyz, crop = points(3000)
    channels = torch.cat([xyz, xyz.norm(dim=1, keepdim=True)], 1)
    layers = DynamicVoxels(4, (), (cell, cell, cell / 2), BOUNDS)
    assert layers.may_loop(channels, 2)
    assert not layers.may_loop(channels.clone().requires_grad_(), 2)
    found = layers(channels, crop, 2)
    none = layers(channels[:0], crop[:0], 2)
    monkeypatch.setattr(layers, "may_loop", lambda *_: False)
    wanted = layers(channels, crop, 2)
    assert torch.equal(found.coords, wanted.coords)
    torch.testing.assert_close(found.features, wanted.features, atol=1e-6, rtol=1e-6)
    assert none.features.shape == (0, 4)


@pytest.mark.parametrize("first", ["x", "y"])
@pytest.mark.parametrize("shift", [False, True])
def test_windows_of_a_loop_are_those_of_tensors(voxels: Voxels, first: str, shift: bool) -> None:
    wanted = window_key(voxels.coords, voxels.shape, (5, 7, 3), shift, first).argsort()
    assert torch.equal(window_order(voxels.coords, voxels.shape, (5, 7, 3), shift, first), wanted)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_columns_give_the_convolution_of_the_whole_map(voxels: Voxels, bias: bool) -> None:
    layer = nn.Conv2d(16 * 8, 5, 3, padding=1, bias=bias)
    found = spread(voxels, layer.weight, layer.bias)
    torch.testing.assert_close(found, layer(from_above_as_stored(voxels)), atol=1e-5, rtol=1e-5)
    empty = Voxels(voxels.features[:0], voxels.coords[:0], voxels.shape, 2)
    torch.testing.assert_close(
        spread(empty, layer.weight, layer.bias), layer(from_above_as_stored(empty)), atol=1e-6, rtol=0
    )


def test_a_loop_reverses_what_groups_own_as_tensors_do() -> None:
    x = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    filled = torch.tensor([6, 4, 1])
    found = mirrored(x, filled)
    assert torch.equal(found, turned_round(x.mT.contiguous().mT, filled))  # not in rows: no loop
    assert torch.equal(found[1], x[1][[3, 2, 1, 0, 4, 5]])
    assert torch.equal(mirrored(found, filled), x)
    assert torch.autograd.gradgradcheck(lambda a: mirrored(a, filled), x.double().requires_grad_())


class Means(nn.Module):
    """Crops -> the means of their points, where they stand in the batch."""

    def forward(self, xyz: Tensor, crop: Tensor, crops: int) -> tuple[Tensor, Tensor]:
        total = torch.zeros(crops, 3).index_add(0, crop, xyz)
        return total / torch.bincount(crop, minlength=crops)[:, None], torch.full(
            (crops,), torch.get_num_threads()
        )


def test_threads_share_the_crops_and_leave_the_numbers_of_threads_alone() -> None:
    rng = np.random.default_rng(0)
    crops = [rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 9, 2, 7, 3)]
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        heat, threads = side_by_side(Means(), crops, torch.device("cpu"))
        assert threads.tolist() == [1] * 5
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)
        pool.cache_clear()
    np.testing.assert_allclose(heat.numpy(), [crop.mean(0) for crop in crops], atol=1e-6)
