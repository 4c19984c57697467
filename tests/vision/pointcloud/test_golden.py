"""Equality with published code: voxels, orders, operators, backbones, heads, overlaps, metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import Entry, entries
from vision.pointcloud import iou, orders
from vision.pointcloud.boxes import corners_3d
from vision.pointcloud.models import anchor_head, planes, voxel_mamba
from vision.pointcloud.models.center_head import BRANCHES, CenterHead
from vision.pointcloud.models.lion import LIONBackbone, LIONBlock, LIONLayer, PatchMerging3D
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.nms import nms
from vision.pointcloud.protocols import argoverse, kitti, nuscenes, tracking
from vision.pointcloud.sparse_conv import StridedConv, SubmanifoldConv
from vision.pointcloud.voxels import DynamicVoxels, Voxels, keys
from vision.pointcloud.windows import equal_groups, window_order

Arrays = dict[str, np.ndarray]
CHECKS: dict[str, Callable[[Entry, Arrays], None]] = {}


def covers(*files: str) -> Callable[[Any], Any]:
    """Sign in a check for entries whose file begins with one of these."""

    def sign(check: Any) -> Any:
        CHECKS.update(dict.fromkeys(files, check))
        return check

    return sign


def check_of(entry: Entry) -> Callable[[Entry, Arrays], None] | None:
    fitting = [name for name in CHECKS if entry.file.startswith(name)]
    return CHECKS[max(fitting, key=len)] if fitting else None


@pytest.mark.parametrize("entry", entries("pointcloud"), ids=str)
def test_golden(entry: Entry) -> None:
    check = check_of(entry)
    assert check is not None, f"nothing here computes {entry.key!r}"
    with torch.no_grad():
        check(entry, entry.arrays())


def near(ours: Any, wanted: np.ndarray, tolerance: float) -> None:
    found = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    assert found.shape == wanted.shape
    worst = np.abs(found.astype(np.float64) - wanted).max(initial=0)
    assert worst <= tolerance, f"off by {worst:.3g}, allowed {tolerance:g}"


def loaded(module: torch.nn.Module, arrays: Arrays, prefix: str = "w/") -> Any:
    """The module with the weights of an entry; no key is left over on either side."""
    state = {k.removeprefix(prefix): torch.tensor(v) for k, v in arrays.items() if k.startswith(prefix)}
    own = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert own == set(state)
    module.load_state_dict(state, strict=False)
    return module.eval()


def voxels_of(
    arrays: Arrays, shape: Any, batch: int, names: tuple[str, str] = ("in/features", "in/coords")
) -> Voxels:
    depth, height, width = (int(extent) for extent in shape)
    features, coords = torch.tensor(arrays[names[0]]), torch.tensor(arrays[names[1]]).long()
    return Voxels(features, coords, (depth, height, width), batch)


def sorted_rows(voxels: Voxels) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and features by batch, z, y, x."""
    coords, features = voxels.coords.numpy(), voxels.features.detach().numpy()
    order = np.lexsort(coords.T[::-1])
    return coords[order], features[order]


def same_voxels(ours: Voxels, coords: np.ndarray, features: np.ndarray, tolerance: float) -> None:
    found, values = sorted_rows(ours)
    order = np.lexsort(coords.T[::-1])
    np.testing.assert_array_equal(found, coords[order])
    near(values, features[order], tolerance)


@covers("window_map")
def window_map(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    coords = torch.tensor(arrays["in/coords"]).long()
    for first in "xy":
        order = window_order(coords, args["sparse_shape_zyx"], args["window_shape"], args["shift"], first)
        np.testing.assert_array_equal(order.numpy(), arrays[f"out/{first}"])
    groups = equal_groups(coords[:, 0].sort().values, args["batch_size"], args["group_size"])
    np.testing.assert_array_equal(groups.to_slots.numpy(), arrays["out/flat2win"])
    np.testing.assert_array_equal(groups.to_rows.numpy(), arrays["out/win2flat"])


@covers("op_")
def operator(entry: Entry, arrays: Arrays) -> None:
    options = dict(entry.args)
    name, width = entry.key.split()[-1], options.pop("d_model")
    module = loaded(build_operator(name, width, **options), arrays)
    tolerance = 1e-6 if name == "RWKV" else 1e-4  # RWKV's branch is a hundredth of its input
    near(module(torch.tensor(arrays["in/x"]), None), arrays["out/y"], tolerance)


@covers("patch_merge")
def patch_merge(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    share = args["diff_scale"] if args["diffusion"] else 0.0
    module = loaded(PatchMerging3D(args["dim"], args["out_dim"], args["down_scale_xyz"], share), arrays)
    merged, inverse = module(voxels_of(arrays, args["spatial_shape_zyx"], args["batch_size"]))
    np.testing.assert_array_equal(inverse.numpy(), arrays["out/inverse"])
    np.testing.assert_array_equal(merged.coords.numpy(), arrays["out/coords"])
    np.testing.assert_array_equal(merged.shape, arrays["out/spatial_shape"])
    near(merged.features, arrays["out/features"], 1e-5)


def operator_maker(name: str, options: dict[str, Any], width: int) -> Callable[[], torch.nn.Module]:
    other = (
        {"d_model", "layer_id", "n_layer", "with_cp", "drop_path"}
        if name != "RWKV"
        else {"d_model", "with_cp"}
    )
    kept = {key: value for key, value in options.items() if key not in other}
    return lambda: build_operator(name, width, **kept)


@covers("lion_layer")
def lion_layer(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    make = operator_maker(args["operator"], args["cfg"], args["dim"])
    layer = LIONLayer(make, args["window_shape_xyz"], args["group_size"], args["shift"], args["direction"])
    out = loaded(layer, arrays)(voxels_of(arrays, args["spatial_shape_zyx"], args["batch_size"]))
    near(out.features, arrays["out/features"], 1e-4)


@covers("lion_block")
def lion_block(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    make = operator_maker(args["operator"], args["cfg"], args["dim"])
    block = LIONBlock(
        args["dim"], args["down_scales"], args["window_shape_xyz"], args["group_size"], make,
        args["direction"], args["shift"],
    )  # fmt: skip
    out = loaded(block, arrays)(voxels_of(arrays, args["spatial_shape_zyx"], args["batch_size"]))
    same_voxels(out, arrays["out/coords"], arrays["out/features"], entry.tolerance(1e-4))


@covers("lion_backbone")
def lion_backbone(entry: Entry, arrays: Arrays) -> None:
    args, config = entry.args, entry.args["model_cfg"]
    width = config["FEATURE_DIM"]
    make = operator_maker(config["OPERATOR"]["NAME"], config["OPERATOR"]["CFG"], width)
    backbone = LIONBackbone(
        width, make, config["WINDOW_SHAPE"], config["GROUP_SIZE"], config["DIRECTION"], config["SHIFT"],
        config["DIFF_SCALE"] if config["DIFFUSION"] else 0.0, config["LAYER_DOWN_SCALES"],
    )  # fmt: skip
    names = ("in/voxel_features", "in/voxel_coords_bzyx")
    voxels = voxels_of(arrays, reversed(args["grid_size_xyz"]), args["batch_size"], names)
    out, stages = loaded(backbone, arrays)(voxels)
    for k, stage in enumerate(stages[:-1], 1):
        same_voxels(stage, arrays[f"out/x_conv{k}_coords"], arrays[f"out/x_conv{k}_features"], 3e-4)
    same_voxels(out, arrays["out/coords"], arrays["out/features"], 3e-4)


@covers("dynamic_voxel_vfe")
def voxel_features(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    module = DynamicVoxels(
        args["num_point_features"], args["NUM_FILTERS"], args["voxel_size"], args["point_cloud_range"]
    )
    points = torch.tensor(arrays["in/points_bxyzi"])
    sample = points[:, 0].long()
    voxels = loaded(module, arrays)(points[:, 1:].contiguous(), sample, int(sample.max()) + 1)
    np.testing.assert_array_equal(voxels.coords.numpy(), arrays["out/voxel_coords_bzyx"])
    near(voxels.features, arrays["out/voxel_features"], 1e-5)


@covers("sparse_conv3d")
def sparse_convolutions(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    kinds = {
        "subm3": lambda o, i: SubmanifoldConv(i, o),
        "subm_1x3x3": lambda o, i: SubmanifoldConv(i, o, (1, 3, 3)),
        "conv_s2": lambda o, i: StridedConv(i, o, (3, 3, 3), (2, 2, 2), (1, 1, 1)),
        "conv_z": lambda o, i: StridedConv(i, o, (3, 1, 1), (2, 1, 1), (0, 0, 0)),
    }
    for name in {key.split("/")[0] for key in arrays}:
        part = {
            key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")
        }
        weight = part["w/weight"]
        module = loaded(kinds[name](weight.shape[0], weight.shape[-1]), part)
        voxels = voxels_of(part, args["spatial_shape_zyx"], args["batch"], ("in/features", "in/coords_bzyx"))
        out = module(voxels)
        out = out if isinstance(out, Voxels) else voxels.having(out)
        np.testing.assert_array_equal(out.shape, part["out/spatial_shape"])
        same_voxels(out, part["out/coords_bzyx"], part["out/features"], 1e-5)


@covers("rotated_iou")
def overlaps(entry: Entry, arrays: Arrays) -> None:
    for kind, function in (("inter_area", iou.shared_area), ("iou_bev", iou.iou_bev), ("iou_3d", iou.iou_3d)):
        near(function(arrays["in/a"], arrays["in/b"]), arrays[f"out/{kind}"], 1e-6)
        hard = function(arrays["in/hard_a"], arrays["in/hard_b"]).diagonal()
        near(hard, arrays[f"out/hard_{kind}"], 1e-6)


@covers("rotated_nms")
def suppression(entry: Entry, arrays: Arrays) -> None:
    boxes, scores, labels = arrays["in/boxes"], arrays["in/scores"], arrays["in/labels"]
    for name, wanted in arrays.items():
        if not name.startswith("out/keep_"):
            continue
        words = name.removeprefix("out/keep_").split("_")
        rows = np.arange(len(boxes))
        if words[0].startswith("class"):
            rows = rows[labels == int(words[0].removeprefix("class"))]
        kept = rows[nms(boxes[rows], scores[rows], float(words[-1]))]
        np.testing.assert_array_equal(kept, wanted)


@covers("bev_backbone", "bev_res_backbone")
def plane_backbone(entry: Entry, arrays: Arrays) -> None:
    config = entry.args["model_cfg"]
    module = planes.BEVBackbone(
        entry.args["input_channels"], config["LAYER_NUMS"], config["LAYER_STRIDES"], config["NUM_FILTERS"],
        config["UPSAMPLE_STRIDES"], config["NUM_UPSAMPLE_FILTERS"], residual="Res" in entry.key,
    )  # fmt: skip
    near(loaded(module, arrays)(torch.tensor(arrays["in/x"])), arrays["out/y"], 1e-4)


@covers("center_head")
def center_head(entry: Entry, arrays: Arrays) -> None:
    args, config = entry.args, entry.args["model_cfg"]
    image, truth = torch.tensor(arrays["in/spatial_features_2d"]), torch.tensor(arrays["in/gt_boxes"])
    goal = config["TARGET_ASSIGNER_CONFIG"]
    head = CenterHead(
        image.shape[1], len(config["CLASS_NAMES_EACH_HEAD"][0]), args["point_cloud_range"],
        args["voxel_size"], shared=config["SHARED_CONV_CHANNEL"], stride=goal["FEATURE_MAP_STRIDE"],
        convolutions=config["NUM_HM_CONV"],
    )  # fmt: skip
    maps = loaded(head, arrays)(image)
    for name in (*BRANCHES, "hm"):
        near(maps[name], arrays[f"out/pred_{name}"], 1e-4)
    shape = (image.shape[2], image.shape[3])
    targets = head.targets(truth, shape, goal["NUM_MAX_OBJS"], goal["GAUSSIAN_OVERLAP"], goal["MIN_RADIUS"])
    near(targets.heat, arrays["out/heatmaps"], 1e-6)
    near(targets.boxes, arrays["out/target_boxes"], 1e-5)
    np.testing.assert_array_equal(targets.cells.numpy(), arrays["out/inds"])
    np.testing.assert_array_equal(targets.mask.numpy(), arrays["out/masks"])
    parts = head.loss(maps, targets, config["LOSS_CONFIG"]["LOSS_WEIGHTS"]["loc_weight"])
    for ours, theirs in (("heat", "loss_hm"), ("place", "loss_loc"), ("loss", "loss")):
        near(parts[ours], arrays[f"out/{theirs}"], 1e-4 * (1 + abs(float(arrays[f"out/{theirs}"]))))
    most = len(arrays["out/decoded_boxes_0"])
    for k, (boxes, scores, kinds) in enumerate(head.decode(maps, most)):
        near(boxes, arrays[f"out/decoded_boxes_{k}"], 1e-4)
        near(scores, arrays[f"out/decoded_scores_{k}"], 1e-4)
        np.testing.assert_array_equal(kinds.numpy(), arrays[f"out/decoded_labels_{k}"])


@covers("anchor_head")
def anchors(entry: Entry, arrays: Arrays) -> None:
    args, config = entry.args, entry.args["model_cfg"]
    kinds = [
        anchor_head.Anchors(
            tuple(kind["anchor_sizes"][0]), kind["anchor_bottom_heights"][0], kind["matched_threshold"],
            kind["unmatched_threshold"], tuple(kind["anchor_rotations"]),
        )
        for kind in config["ANCHOR_GENERATOR_CONFIG"]
    ]  # fmt: skip
    image, truth = torch.tensor(arrays["in/spatial_features_2d"]), torch.tensor(arrays["in/gt_boxes"])
    shape = (image.shape[2], image.shape[3])
    head = loaded(
        anchor_head.AnchorHead(args["input_channels"], kinds, shape, args["point_cloud_range"]), arrays
    )
    near(head.every(), arrays["out/anchors"], 1e-5)
    targets = head.targets(truth)
    np.testing.assert_array_equal(targets.labels.numpy(), arrays["out/box_cls_labels"])
    near(targets.codes, arrays["out/box_reg_targets"], 1e-4)
    near(targets.weights, arrays["out/reg_weights"], 1e-6)
    maps = head(image)
    weights = config["LOSS_CONFIG"]["LOSS_WEIGHTS"]
    parts = head.loss(maps, targets, (weights["cls_weight"], weights["loc_weight"], weights["dir_weight"]))
    for ours, theirs in (
        ("heat", "loss_cls"),
        ("place", "loss_loc"),
        ("direction", "loss_dir"),
        ("loss", "loss"),
    ):
        near(parts[ours], arrays[f"out/{theirs}"], 1e-4 * (1 + abs(float(arrays[f"out/{theirs}"]))))
    logits, boxes = head.decode(maps)
    near(logits, arrays["out/decoded_cls_logits"], 1e-4)
    near(boxes, arrays["out/decoded_boxes"], 1e-4)


@covers("box_coder")
def box_coder(entry: Entry, arrays: Arrays) -> None:
    truth, grid = torch.tensor(arrays["in/gt"]), torch.tensor(arrays["in/anchors"])
    for end, sine in (("", False), ("_sincos", True)):
        codes = anchor_head.encode(truth, grid, sine)
        near(codes, arrays[f"out/encoded{end}"], 1e-5)
        near(anchor_head.decode(codes, grid, sine), arrays[f"out/decoded{end}"], 1e-4)
    near(anchor_head.nearest_iou(truth, grid), arrays["out/nearest_bev_iou"], 1e-5)
    near(corners_3d(arrays["in/gt"]), arrays["out/corners"], 1e-4)


@covers("order_hilbert")
def hilbert_keys(entry: Entry, arrays: Arrays) -> None:
    places = torch.tensor(arrays["in/coords"])
    np.testing.assert_array_equal(orders.hilbert(places, entry.args["num_bits"]).numpy(), arrays["out/key"])


@covers("order_voxel_mamba")
def voxel_mamba_order(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    coords = torch.tensor(arrays["in/coords"]).long()
    key = orders.hilbert(coords[:, 1:] + args["shift"], args["num_bits"])
    order = ((coords[:, 0] << (3 * args["num_bits"])) | key).argsort()
    np.testing.assert_array_equal(order.numpy(), arrays["out/order"])
    np.testing.assert_array_equal(order.argsort().numpy(), arrays["out/inverse"])


@covers("order_curves")
def curves(entry: Entry, arrays: Arrays) -> None:
    x, y, z = torch.tensor(arrays["in/coords"]).long().unbind(1)
    coords = torch.stack([torch.tensor(arrays["in/batch"]).long(), z, y, x], 1)
    for name in entry.args["orders"]:
        key = orders.curve_keys(coords, name, entry.args["depth"])
        np.testing.assert_array_equal(key.numpy(), arrays[f"out/{name}"])


@covers("voxel_mamba_block")
def voxel_mamba_block(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    width = args["d_model"]
    block = voxel_mamba.DualScaleBlock(
        width, args["block_index"], args["down_stride"][-1], args["down_kernel_size"][-1], args["curve_bits"]
    )
    state = voxel_mamba.from_published(
        {k[2:]: torch.tensor(v) for k, v in arrays.items() if k.startswith("w/")}
    )
    place = voxel_mamba.PositionCode(width)
    loaded(place, {k.removeprefix("pos_embed."): v.numpy() for k, v in state.items() if "pos_embed" in k}, "")
    loaded(block, {k: v.numpy() for k, v in state.items() if "pos_embed" not in k}, "")
    voxels = voxels_of(arrays, args["sparse_shape_zyx"], args["batch_size"])
    near(block(voxels, place).features, arrays["out/features"], 1e-4)


@covers("voxel_mamba_backbone")
def voxel_mamba_backbone(entry: Entry, arrays: Arrays) -> None:
    args = entry.args
    backbone = voxel_mamba.VoxelMamba(
        args["d_model"], args["num_stage"], [pair[-1] for pair in args["down_stride"]],
        [pair[-1] for pair in args["down_kernel_size"]], args["curve_bits"],
    )  # fmt: skip
    state = voxel_mamba.from_published(
        {k[2:]: torch.tensor(v) for k, v in arrays.items() if k.startswith("w/")}
    )
    loaded(backbone, {k: v.numpy() for k, v in state.items()}, "")
    x, y, z = args["grid_size_xyz"]
    out = backbone(voxels_of(arrays, (z + 1, y, x), args["batch_size"]))
    same_voxels(out, arrays["out/coords"], arrays["out/features"], 1e-3)


@covers("kitti_ap")
def kitti_precision(entry: Entry, arrays: Arrays) -> None:
    sides = []
    for side in ("gt", "dt"):
        rows = {k.removeprefix(f"{side}/"): v for k, v in arrays.items() if k.startswith(f"{side}/")}
        frames = []
        for frame in range(int(arrays["n_frames"])):
            keep = rows["frame"] == frame
            frames.append(kitti.Objects(**{k: v[keep] for k, v in rows.items() if k != "frame"}))
        sides.append(frames)
    report = kitti.kitti_ap(*sides)
    for metric in ("bbox", "bev", "3d", "aos"):
        near(report["precision"][metric], arrays[f"out/precision_{metric}"], 1e-6)
        for sampling in ("R11", "R40"):
            near(report[sampling][metric], arrays[f"out/{metric}_{sampling}"], 1e-5)


@covers("nuscenes_nds")
def nuscenes_figures(entry: Entry, arrays: Arrays) -> None:
    names = {"place": "translation", "size": "size_wlh"}
    sides = []
    for side in ("gt", "dt"):
        fields = nuscenes.Things.__dataclass_fields__
        sides.append(nuscenes.Things(**{name: arrays[f"{side}/{names.get(name, name)}"] for name in fields}))
    report = nuscenes.nuscenes_score(*sides, classes=[str(name) for name in arrays["class_names"]])
    columns = [nuscenes.ERRORS.index(str(name)) for name in arrays["error_names"]]
    near(report["ap"], arrays["out/ap_class_by_distance"], 1e-6)
    np.testing.assert_allclose(
        np.asarray(report["errors"])[:, columns], arrays["out/tp_class_by_error"], atol=1e-6, equal_nan=True
    )
    near(report["mean_ap"], arrays["out/mean_ap"], 1e-6)
    near(np.asarray(report["mean_errors"])[columns], arrays["out/tp_errors"], 1e-6)
    near(np.asarray(report["scores"])[columns], arrays["out/tp_scores"], 1e-6)
    near(report["nds"], arrays["out/nd_score"], 1e-6)


@covers("av2_detection")
def argoverse_figures(entry: Entry, arrays: Arrays) -> None:
    truth, found = (
        argoverse.Cuboids(
            rows[:, 0], rows[:, 1], rows[:, 2:5], rows[:, 5:8], argoverse.yaw_of(rows[:, 8:12]), rows[:, 12]
        )
        for rows in (arrays["in/truth"], arrays["in/detections"])
    )
    report = argoverse.argoverse_score(truth, found, len(entry.args["categories"]))
    for name in ("true_positive", "evaluated", "AP", "ATE", "ASE", "AOE", "CDS"):
        near(report[name], arrays[f"out/{name}"], 1e-6)


@covers("tracking_metrics")
def tracking_figures(entry: Entry, arrays: Arrays) -> None:
    frames = tracking.tracked_frames(arrays["in/truth"], arrays["in/tracks"], entry.args["frames"])
    for frame, wanted in zip(frames, arrays["in/similarity"], strict=True):
        near(frame.similarity, wanted[: len(frame.truth), : len(frame.tracks)], 1e-6)
    report = {
        **tracking.hota(frames),
        **tracking.clear(frames, entry.args["threshold"]),
        **tracking.identity(frames, entry.args["threshold"]),
    }
    for name in (key.removeprefix("out/") for key in arrays if key.startswith("out/")):
        near(report[name], arrays[f"out/{name}"], 1e-6)


def test_keys_rise_by_batch_x_y_z() -> None:
    coords = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    assert keys(coords, (2, 2, 2)).tolist() == [1, 2, 4, 8]
