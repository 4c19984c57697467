"""Speed of the parts of detection, and of the whole. `recurra bench pointcloud`.

Scans are generated: 64 rings, all around. Times are of the threads that the command is given.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import ModelConfig
from vision.pointcloud.crops import MakeCrops
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.models.operators import build_operator, kept_mb
from vision.pointcloud.nms import nms
from vision.pointcloud.orders import hilbert, hilbert_tensor
from vision.pointcloud.predict import Detector
from vision.pointcloud.sparse_conv import SubmanifoldConv
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.train import learn
from vision.pointcloud.voxels import DynamicVoxels, Voxels

Calls = tuple[Callable[[], Any], Callable[[], Any] | None]
SEED = 1_000_012
TOKENS, WIDTH = 8192, 64
OPERATORS = ("min_gru", "gru", "hgrn", "Mamba", "RetNet", "RWKV", "xLSTM", "TTT")


def cases() -> list[Case]:
    """Parts, operators along 8,192 tokens, and whole scans."""
    operators = [
        Case(f"pointcloud operator {name}", f"{TOKENS} tokens x {WIDTH}, both directions", along(name))
        for name in OPERATORS
    ]
    return [
        Case("pointcloud simulate", "hdl64, a whole turn", generate, repeats=5),
        Case("pointcloud ground", "a whole turn", ground),
        Case("pointcloud voxels", "127 k points, .2 x .2 x .25 m", voxelise, limit_us=3000),
        Case("pointcloud submanifold 3x3x3", "20 k voxels x 64, pairs known", convolve),
        Case(
            "pointcloud submanifold 3x3x3, found anew",
            "20 k voxels x 64, pairs looked up",
            convolve_anew,
            "spconv" if has_spconv() else None,
            target=1.0 if has_spconv() else None,
            repeats=5,
        ),
        Case("pointcloud submanifold backward", "20 k voxels x 64, pairs known", convolve_back, repeats=5),
        *(
            Case(
                f"pointcloud training, {precision}",
                "tiny, crops of generated scans",
                value=training(precision),
                unit="crops/s",
            )
            for precision in ("float32", "bfloat16")
        ),
        *(
            Case(
                f"pointcloud linear cost {name}",
                "10 k to 1 M tokens",
                value=straightness(name),
                unit="largest / smallest time or memory a token",
                at_most=1.15 / 0.85,
            )
            for name in OPERATORS
        ),
        Case("pointcloud hilbert", "20 k voxels, 9 bits", curve, "tensor code", limit_us=2000),
        Case("pointcloud rotated nms", "500 boxes", suppress, limit_us=5000),
        *operators,
        Case("pointcloud tiny", "a whole turn, points to boxes", whole("pointcloud-tiny", True), repeats=5),
        Case(
            "pointcloud tiny, first scan",
            "a new process, warm disk",
            value=lambda: fresh()["first"],
            unit="times the second",
            at_most=3.0,
        ),
        Case(
            "pointcloud tiny, memory",
            "a new process, two whole turns",
            value=lambda: fresh()["mb"],
            unit="MB at most",
            at_most=1024.0,
        ),
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


def has_spconv() -> bool:
    """Whether the peer is installed."""
    from importlib.util import find_spec

    return find_spec("spconv") is not None


def convolve_anew() -> Calls:
    layer, rows = SubmanifoldConv(64, 64), voxels()

    def ours() -> Any:
        return layer(replace(rows, memo={}))

    no_grad = torch.no_grad()
    if not has_spconv():
        return no_grad(ours), None
    import spconv.pytorch as spconv  # pyright: ignore[reportMissingImports]

    other = spconv.SubMConv3d(64, 64, 3, bias=False)
    indices = rows.coords.int()

    def peer() -> Any:
        return other(spconv.SparseConvTensor(rows.features, indices, list(rows.shape), 1))

    return no_grad(ours), no_grad(peer)


def convolve_back() -> Calls:
    """Without a peer: spconv 2.3 asks for a CUDA driver on its way back, also for tensors of a CPU."""
    layer, rows = SubmanifoldConv(64, 64), voxels()
    features = rows.features.clone().requires_grad_()

    def both() -> None:
        layer(rows.having(features)).sum().backward()

    return both, None


def training(precision: str) -> Callable[[], float]:
    """Crops of a second through `tiny`, forth and back."""

    def measure() -> float:
        batch = MakeCrops("mixture", 2)(2, torch.Generator().manual_seed(0))
        network = build_network(ModelConfig()).train()
        best = 0.0
        for _ in range(3):  # the first one compiles
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = learn(network, batch)["loss"]
            loss.backward()
            best = max(best, len(batch) / (time.perf_counter() - began))
        return best

    return measure


def straightness(name: str) -> Callable[[], float]:
    """Times a token along ten thousand to a million of them, in groups of 4,096: largest over smallest.

    Or of what a forward pass keeps for its gradients, along ten and a hundred thousand, if that is more.
    """

    def measure() -> float:
        torch.manual_seed(0)
        operator = build_operator(name, 16).eval()
        kept = [
            kept_mb(operator, torch.randn(groups, 4096, 16), torch.full((groups,), 4096)) / groups
            for groups in (2, 24)
        ]
        times = []
        with torch.no_grad():
            for groups in (2, 24, 244):
                x, filled = torch.randn(groups, 4096, 16), torch.full((groups,), 4096)
                best = float("inf")
                for _ in range(3):
                    began = time.perf_counter()
                    operator(x, filled)
                    best = min(best, time.perf_counter() - began)
                times.append(best / (groups * 4096))
        return max(max(times) / min(times), max(kept) / min(kept))

    return measure


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


ALONE = """
import json, resource, sys, time
from vision.pointcloud.data import read_cloud
from vision.pointcloud.predict import Detector
detector = Detector.open()
times = []
for path in sys.argv[1:]:
    began = time.perf_counter()
    detector(read_cloud(path))
    times.append(time.perf_counter() - began)
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"first": times[0] / times[1], "mb": mb}))
"""


@lru_cache(maxsize=1)
def fresh() -> dict[str, float]:
    """What the first file of a new process costs beside the second, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.bin" for seed in (SEED, SEED + 1)]
        for path, seed in zip(paths, (SEED, SEED + 1), strict=True):
            simulate(seed, "hdl64").points[:, :4].astype(np.float32).tofile(path)
        command = [sys.executable, "-c", ALONE, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def whole(weights: str, mirror: bool) -> Callable[[], Calls]:
    """A detector on a whole turn."""

    def make() -> Calls:
        detector = Detector.open(weights)
        detector.mirror = mirror
        cloud = Cloud(scan().points[:, :3], name="generated")
        return lambda: detector(cloud), None

    return make
