"""Overlaps, suppression, orders, sparse convolutions, groups: what must hold for any input."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import ConfigError, DataError
from core.parts.drop_path import DropPath
from vision.pointcloud import orders
from vision.pointcloud.iou import iou_3d, iou_bev
from vision.pointcloud.models.lion import LIONLayer, PatchMerging3D
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.neighbours import compiled_pairs, look_up, neighbours, pairs_of
from vision.pointcloud.nms import nms
from vision.pointcloud.sparse_conv import GatherConv, PairConv, StridedConv, SubmanifoldConv, paired
from vision.pointcloud.voxels import DynamicVoxels, Voxels, dense
from vision.pointcloud.windows import equal_groups

SHAPE = (5, 7, 6)


def some_voxels(count: int, width: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> Voxels:
    generator = torch.Generator().manual_seed(count)
    cells = batch * SHAPE[0] * SHAPE[1] * SHAPE[2]
    key = torch.randperm(cells, generator=generator)[:count]
    x, key = key % SHAPE[2], key // SHAPE[2]
    y, key = key % SHAPE[1], key // SHAPE[1]
    coords = torch.stack([key // SHAPE[0], key % SHAPE[0], y, x], 1)
    return Voxels(torch.randn(count, width, generator=generator, dtype=dtype), coords, SHAPE, batch)


def test_a_box_covers_itself_and_half_of_its_half() -> None:
    box = np.array([[1.0, 2.0, 0.0, 4.0, 2.0, 1.5, 0.7]])
    half = np.array([[1.0, 2.0, 0.375, 4.0, 1.0, 0.75, 0.7]])
    assert iou_bev(box, box)[0, 0] == pytest.approx(1)
    assert iou_bev(box, half)[0, 0] == pytest.approx(0.5)
    assert iou_3d(box, half)[0, 0] == pytest.approx(0.25)
    turned = box.copy()
    turned[0, 6] += np.pi
    assert iou_bev(box, turned)[0, 0] == pytest.approx(1)


def test_touching_and_empty_boxes_share_nothing() -> None:
    a = np.array([[0.0, 0, 0, 2, 2, 2, 0]])
    beside, point = a.copy(), a.copy()
    beside[0, 0] = 2
    point[0, 3:6] = 0
    assert iou_bev(a, beside)[0, 0] == pytest.approx(0, abs=1e-12)
    assert iou_bev(a, point)[0, 0] == 0
    assert iou_bev(np.zeros((0, 7)), a).shape == (0, 1)


def test_suppression_keeps_the_best_of_each_heap() -> None:
    boxes = np.array([[0, 0, 0, 4, 2, 1, 0], [0.3, 0, 0, 4, 2, 1, 0.1], [9, 0, 0, 4, 2, 1, 0]], float)
    assert nms(boxes, np.array([0.5, 0.9, 0.1]), 0.3).tolist() == [1, 2]
    assert nms(np.zeros((0, 7)), np.zeros(0), 0.3).tolist() == []


@pytest.mark.parametrize("name", orders.NAMES)
def test_orders_are_bijections_up_to_the_border(name: str) -> None:
    side = torch.arange(8)
    z, y, x = torch.meshgrid(side, side, side, indexing="ij")
    coords = torch.stack([torch.zeros_like(z), z, y, x], -1).reshape(-1, 4)
    key = orders.curve_keys(coords, name, 3)
    assert key.sort().values.tolist() == list(range(512))
    if name == "hilbert":  # neighbours along the curve are neighbours in space
        step = coords[key.argsort(), 1:].diff(dim=0).abs().sum(1)
        assert step.max() == 1


def test_tensor_code_and_compiled_code_agree_on_keys() -> None:
    places = torch.randint(0, 64, (300, 3), generator=torch.Generator().manual_seed(1))
    assert torch.equal(orders.interleave(places, 6), orders.morton(places, 6))
    assert torch.equal(orders.hilbert_tensor(places, 6), orders.hilbert(places, 6))


def test_a_coordinate_beyond_the_curve_is_refused() -> None:
    with pytest.raises(DataError, match="do not fit a curve of 3 bits"):
        orders.hilbert(torch.tensor([[8, 0, 0]]), 3)


def test_both_forms_of_the_sparse_convolution_agree_with_the_dense_one() -> None:
    voxels = some_voxels(120, 3)
    conv = SubmanifoldConv(3, 4).double()
    weight = conv.weight.flatten(1, 3).permute(1, 2, 0).contiguous()
    pairs = PairConv.apply(voxels.features, weight, pairs_of(voxels, (3, 3, 3)))
    table = GatherConv.apply(voxels.features, weight, neighbours(voxels, (3, 3, 3)))
    assert isinstance(pairs, Tensor)
    assert isinstance(table, Tensor)
    torch.testing.assert_close(pairs, table)
    half = paired(voxels.features.bfloat16(), weight.bfloat16(), pairs_of(voxels, (3, 3, 3)))
    torch.testing.assert_close(half.double(), table, atol=0.1, rtol=0.1)
    volume = torch.nn.functional.conv3d(dense(voxels), conv.weight.permute(0, 4, 1, 2, 3), padding=1)
    b, z, y, x = voxels.coords.unbind(1)
    torch.testing.assert_close(pairs, volume.permute(0, 2, 3, 4, 1)[b, z, y, x])


def test_gradients_of_every_sparse_operator() -> None:
    voxels = some_voxels(25, 2)
    x = voxels.features.clone().requires_grad_()
    conv = SubmanifoldConv(2, 3).double()
    weight = conv.weight.detach().flatten(1, 3).permute(1, 2, 0).contiguous().requires_grad_()
    pairs, table = pairs_of(voxels, (3, 3, 3)), neighbours(voxels, (3, 3, 3))
    assert torch.autograd.gradcheck(lambda a, w: PairConv.apply(a, w, pairs), (x, weight))
    assert torch.autograd.gradcheck(lambda a, w: GatherConv.apply(a, w, table), (x, weight))
    strided = StridedConv(2, 2).double()
    assert torch.autograd.gradcheck(lambda a: strided(voxels.having(a)).features, (x,))


def test_a_convolution_of_several_blocks_of_rows_agrees_with_the_table() -> None:
    voxels = some_voxels(400, 5, dtype=torch.float32)
    weight = torch.randn(27, 5, 7, generator=torch.Generator().manual_seed(2))
    answers = []
    for form, how in ((PairConv, pairs_of), (GatherConv, neighbours)):
        x, w = voxels.features.clone().requires_grad_(), weight.clone().requires_grad_()
        y = form.apply(x, w, how(voxels, (3, 3, 3)))
        assert isinstance(y, Tensor)
        y.square().sum().backward()
        answers.append((y, x.grad, w.grad))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_one_voxel_and_none_pass_through() -> None:
    conv = SubmanifoldConv(3, 4)
    for count in (0, 1):
        voxels = some_voxels(count, 3, dtype=torch.float32)
        assert conv(voxels).shape == (count, 4)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd sizes"):
        SubmanifoldConv(2, 2, (2, 3, 3))


def test_odd_grids_merge_without_mixing_rows() -> None:
    """The reference floors the keys and fails from an extent of 9 on."""
    merge = PatchMerging3D(3, -1, (2, 2, 2)).double().eval()
    voxels = some_voxels(150, 3)
    merged, inverse = merge(voxels)
    assert merged.shape == (3, 4, 3)
    assert torch.equal(merged.coords[inverse][:, 1:], voxels.coords[:, 1:] // 2)
    assert len(merged.coords.unique(dim=0)) == len(merged)


@pytest.mark.parametrize("unit", ["min_gru", "gru", "hgrn"])
def test_a_group_as_long_as_the_sample_is_no_groups(unit: str) -> None:
    torch.manual_seed(0)
    voxels = some_voxels(60, 4, batch=1)
    layer = LIONLayer(lambda: build_operator(unit, 4), (3, 3, 3), 60, False).double().eval()
    whole = layer(voxels).features
    layer.group = 0
    torch.testing.assert_close(layer(voxels).features, whole)


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    torch.manual_seed(0)
    voxels = some_voxels(90, 4)
    layer = LIONLayer(lambda: build_operator("min_gru", 4), (3, 3, 3), 16, True).double().eval()
    both = layer(voxels).features
    for sample in (0, 1):
        own = voxels.coords[:, 0] == sample
        coords = voxels.coords[own].clone()
        coords[:, 0] = 0
        alone = layer(Voxels(voxels.features[own], coords, SHAPE, 1)).features
        torch.testing.assert_close(both[own], alone)


def test_permuted_rows_give_permuted_features() -> None:
    torch.manual_seed(0)
    voxels = some_voxels(70, 4)
    layer = LIONLayer(lambda: build_operator("min_gru", 4), (3, 3, 3), 16, False).double().eval()
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3))
    mixed = Voxels(voxels.features[order], voxels.coords[order], SHAPE, 2)
    torch.testing.assert_close(layer(mixed).features, layer(voxels).features[order])


def test_groups_repeat_what_came_one_group_earlier() -> None:
    groups = equal_groups(torch.zeros(5, dtype=torch.int64), 1, 3)
    assert groups.to_slots.tolist() == [0, 1, 2, 3, 4, 2]
    assert groups.filled.tolist() == [3, 2]
    assert equal_groups(torch.zeros(2, dtype=torch.int64), 1, 5).to_slots.tolist() == [0, 1, 0, 1, 0]


def test_voxels_of_no_points_are_none() -> None:
    module = DynamicVoxels(4, (8, 8), (1.0, 1.0, 1.0), (0, 0, 0, 4, 4, 4)).eval()
    voxels = module(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 1)
    assert len(voxels) == 0
    assert module(torch.full((9, 4), 1.5), torch.zeros(9, dtype=torch.int64), 1).coords.tolist() == [
        [0, 1, 1, 1]
    ]


def test_drop_path_keeps_the_mean_and_is_still_in_evaluation() -> None:
    torch.manual_seed(0)
    part = DropPath(0.25)
    x = torch.ones(20_000, 2)
    y = part(x)
    assert y[:, 0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(part.eval()(x), x)
    with pytest.raises(ConfigError, match="0 <= rate < 1"):
        DropPath(1.0)


def test_compiled_pairs_are_those_of_the_table() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.stack([torch.randint(n, (90,), generator=generator) for n in (2, 3, 5, 4)], 1)
    voxels = Voxels(torch.zeros(0), cells.unique(dim=0), (3, 5, 4), 2)
    for kernel in ((3, 3, 3), (1, 3, 3), (5, 1, 3)):
        table = look_up(voxels, kernel)
        found = compiled_pairs(voxels, kernel)
        assert found is not None
        for k, (rows, sources) in enumerate(found.of_offsets()):
            wanted = (table[:, k] < len(voxels)).nonzero()[:, 0]
            assert rows.equal(wanted)
            assert sources.equal(table[wanted, k])
