"""Speed of the parts of detection, and of the whole. `recurra bench pointcloud`.

Scans are generated: 64 rings, all around. Times are of the threads that the command is given.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from vision.pointcloud.data import Cloud
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.nms import nms
from vision.pointcloud.orders import hilbert, hilbert_tensor
from vision.pointcloud.predict import Detector
from vision.pointcloud.sparse_conv import SubmanifoldConv
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.voxels import DynamicVoxels, Voxels

Calls = tuple[Callable[[], Any], Callable[[], Any] | None]
SEED = 1_000_012
TOKENS, WIDTH = 8192, 64


def cases() -> list[Case]:
    """Parts, operators along 8,192 tokens, and whole scans."""
    operators = [
        Case(f"pointcloud operator {name}", f"{TOKENS} tokens x {WIDTH}, both directions", along(name))
        for name in ("min_gru", "gru", "hgrn", "Mamba", "RetNet", "RWKV", "xLSTM", "TTT")
    ]
    return [
        Case("pointcloud simulate", "hdl64, a whole turn", generate, repeats=5),
        Case("pointcloud ground", "a whole turn", ground),
        Case("pointcloud voxels", "127 k points, .2 x .2 x .25 m", voxelise, limit_us=3000),
        Case("pointcloud submanifold 3x3x3", "20 k voxels x 64, pairs known", convolve),
        Case("pointcloud hilbert", "20 k voxels, 9 bits", curve, "tensor code", limit_us=2000),
        Case("pointcloud rotated nms", "500 boxes", suppress, limit_us=5000),
        *operators,
        Case("pointcloud tiny", "a whole turn, points to boxes", whole("pointcloud-tiny", True), repeats=5),
        Case(
            "pointcloud tiny --quick",
            "a whole turn, points to boxes",
            whole("pointcloud-tiny", False),
            repeats=5,
        ),
        Case(
            "pointcloud bev --quick",
            "a whole turn, points to boxes",
            whole("pointcloud-bev", False),
            repeats=5,
        ),
    ]


@lru_cache(maxsize=1)
def scan() -> Scan:
    """One generated turn."""
    return simulate(SEED, "hdl64")


def generate() -> Calls:
    seeds = iter(range(SEED, 1 << 40))
    return lambda: simulate(next(seeds), "hdl64"), None


def ground() -> Calls:
    points = scan().points
    return lambda: estimate_ground(points), None


def voxelise() -> Calls:
    points = torch.from_numpy(np.resize(scan().points, (127_000, 4)).copy())
    sample = torch.zeros(len(points), dtype=torch.int64)
    module = DynamicVoxels(4, (), (0.2, 0.2, 0.25), (-70.4, -70.4, -3, 70.4, 70.4, 5))
    return lambda: module(points, sample, 1), None


@lru_cache(maxsize=1)
def voxels() -> Voxels:
    """20,000 occupied voxels of a scan, 64 channels."""
    points = torch.from_numpy(scan().points)
    module = DynamicVoxels(4, (), (0.2, 0.2, 0.2), (-51.2, -51.2, -3, 51.2, 51.2, 5))
    found = module(points, torch.zeros(len(points), dtype=torch.int64), 1)
    return Voxels(torch.randn(len(found), 64)[:20_000], found.coords[:20_000], found.shape, 1)


def convolve() -> Calls:
    layer, rows = SubmanifoldConv(64, 64), voxels()
    return torch.no_grad()(lambda: layer(rows)), None


def curve() -> Calls:
    places = voxels().coords[:, 1:].clamp(max=511)
    return lambda: hilbert(places, 9), lambda: hilbert_tensor(places, 9)


def suppress() -> Calls:
    rng = np.random.default_rng(0)
    place, size = rng.uniform(-40, 40, (500, 3)), rng.uniform([3.5, 1.5, 1.4], [5, 2, 2], (500, 3))
    boxes = np.column_stack([place, size, rng.uniform(-3, 3, 500)])
    boxes[250:, :2] = boxes[:250, :2] + rng.normal(0, 0.4, (250, 2))
    scores = rng.random(500)
    return lambda: nms(boxes, scores, 0.1), None


def along(name: str) -> Callable[[], Calls]:
    """An operator on two groups of 4,096 tokens."""

    def make() -> Calls:
        torch.manual_seed(0)
        operator = build_operator(name, WIDTH).eval()
        x, filled = torch.randn(2, TOKENS // 2, WIDTH), torch.full((2,), TOKENS // 2)
        return torch.no_grad()(lambda: operator(x, filled)), None

    return make


def whole(weights: str, mirror: bool) -> Callable[[], Calls]:
    """A detector on a whole turn."""

    def make() -> Calls:
        detector = Detector.open(weights)
        detector.mirror = mirror
        cloud = Cloud(scan().points[:, :3], name="generated")
        return lambda: detector(cloud), None

    return make
