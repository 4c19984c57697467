"""Training on own labelled scans, in any layout that `evaluate` reads; objects pasted from scan to scan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from core.errors import ConfigError, DataError
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.crops import FIRST_TEST, FIRST_TRAINING, LOW, SIZE, Crops, batch_of, crops_of, view
from vision.pointcloud.evaluation import axes_of
from vision.pointcloud.examples import FORMATS, Example, find_examples, read_example
from vision.pointcloud.formats.labels import role
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.iou import iou_bev
from vision.pointcloud.predict import to_ours
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.synth.sensors import Sensor

KINDS = {"Car": 0, "Pedestrian": 1, "Cyclist": 2, "neutral": 4}
"""Roles of labels as classes of generated scans; a truck is neutral."""
HELD_OUT = 5
"""Every fifth scan chooses the best epoch and is not trained on, where there are so many."""
BANK_SCANS = 24
"""Generated scans that objects are cut out of."""
LEAST_POINTS = 5
"""Points of an object that is worth pasting."""
REAL_SIZE = 0.1
"""Metres below which a label's side is a mistake."""


@dataclass(frozen=True)
class Labelled:
    """A scan on disk and the layout of its labels."""

    path: Path
    format: str


def find_own(words: Sequence[str | Path]) -> list[Labelled]:
    """Labelled scans of folders, each in the layout that has most labels there.

    Raises:
        DataError: a folder without labelled scans.
    """
    found = []
    for word in words:
        best: tuple[str, list[Path]] = ("", [])
        for format in FORMATS[:4]:
            try:
                paths, _ = find_examples(word, format)
            except DataError:
                continue
            if len(paths) > len(best[1]):
                best = format, paths
        if not best[1]:
            layouts = ", ".join(FORMATS[:4])
            raise DataError(f"{word}: no scan with labels beside it in any layout ({layouts}).")
        found += [Labelled(path, best[0]) for path in best[1]]
    return found


def split_own(scans: list[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Scans to train on and scans to choose the best epoch by; the same ones where there are too few."""
    if len(scans) < HELD_OUT:
        return scans, scans
    held = scans[HELD_OUT - 1 :: HELD_OUT]
    return [scan for scan in scans if scan not in held], held


def as_scan(example: Example) -> tuple[Scan, int]:
    """An example as generated scans are, in our axes, and how many of its labels were left out.

    Left out are classes that no head knows, sizes that cannot be, and places beyond any network's view.
    """
    xyz = to_ours(example.cloud.points, example.cloud.frame).astype(np.float32)
    boxes = axes_of(example.cloud.local(example.truth.boxes), example.cloud.frame)
    kinds = np.array([KINDS.get(role(name), -1) for name in example.truth.names], np.int64)
    good = (kinds >= 0) & np.isfinite(boxes).all(1) & (boxes[:, 3:6] > REAL_SIZE).all(1)
    good &= np.hypot(boxes[:, 0], boxes[:, 1]) < 120.0
    boxes, kinds = boxes[good], kinds[good]
    owner = np.full(len(xyz), -1, np.int16)
    for number, box in enumerate(boxes):
        c, s = math.cos(box[6]), math.sin(box[6])
        dx, dy = xyz[:, 0] - box[0], xyz[:, 1] - box[1]
        inside = np.abs(c * dx + s * dy) <= box[3] / 2
        inside &= np.abs(c * dy - s * dx) <= box[4] / 2
        owner[inside & (np.abs(xyz[:, 2] - box[2]) <= box[5] / 2)] = number
    counts = count_inside(xyz, boxes)
    plane = estimate_ground(xyz)
    ring = np.zeros(len(xyz)) if example.cloud.ring is None else example.cloud.ring
    strength = np.zeros((len(xyz), 1), np.float32)
    scan = Scan(
        points=np.hstack([xyz, strength]),
        ring=np.nan_to_num(ring).astype(np.int64).astype(np.uint16),
        time=np.zeros(len(xyz), np.float32),
        owner=owner,
        boxes=boxes.astype(np.float32),
        kinds=kinds,
        counts=counts,
        visible=np.ones(len(boxes)),
        met=counts,
        sensor=Sensor("own", np.array([0.0]), 2000, float(np.clip(-plane.c, 0.5, 4.0)), 60.0),
        fired=len(xyz),
    )
    return scan, int(len(good) - good.sum())


def left_out(scans: Sequence[Labelled], most: int = 50) -> list[str]:
    """A remark on the labels of the first scans that training leaves out."""
    labels = dropped = 0
    for labelled in scans[:most]:
        scan, count = as_scan(read_example(labelled.path, labelled.format))
        labels += len(scan.boxes) + count
        dropped += count
    if not dropped:
        return []
    where = f"of {labels} labels in the first {min(most, len(scans))} scans"
    return [f"{dropped} {where} are left out: another class, a size near zero, or beyond 120 m."]


@lru_cache(maxsize=64)
def read_own(labelled: Labelled) -> Scan:
    """A labelled scan; the last ones stay in memory."""
    return as_scan(read_example(labelled.path, labelled.format))[0]


@dataclass(frozen=True)
class Pasted:
    """An object cut out of a scan."""

    points: np.ndarray
    """(n, 4) relative to the middle of its box, at the foot of it."""
    box: np.ndarray
    """(7,) where it was, its centre's height above the ground."""
    kind: int


def objects_of(scan: Scan) -> list[Pasted]:
    """Cars, people and cyclists of a scan with enough points."""
    plane = estimate_ground(scan.points)
    out = []
    for number, box in enumerate(scan.boxes):
        rows = scan.points[scan.owner == number]
        if len(rows) < LEAST_POINTS or scan.kinds[number] > 2:
            continue
        own = rows.copy()
        own[:, :3] -= box[:3]
        place = box.astype(np.float64)
        place[2] -= plane.height(place)
        out.append(Pasted(own, place, int(scan.kinds[number])))
    return out


def paste(scan: Scan, bank: Sequence[Pasted], count: int, rng: np.random.Generator) -> Scan:
    """A scan with up to `count` objects more, each at its own range in another direction.

    An object that would touch another is left out; points of the scene inside it go, it stands on the
    ground. Its points keep their density since its range does not change, and the sensor sees the same side.
    """
    if not bank or not count:
        return scan
    plane = estimate_ground(scan.points)
    boxes, kinds = [scan.boxes.astype(np.float64)], [scan.kinds]
    points, owner = [scan.points], [scan.owner]
    ring, time = [scan.ring], [scan.time]
    visible, total = [scan.visible], len(scan.boxes)
    for k in rng.integers(len(bank), size=count):
        item = bank[int(k)]
        turn = rng.uniform(0, 2 * math.pi)
        c, s = math.cos(turn), math.sin(turn)
        box = item.box.copy()
        box[0], box[1] = c * item.box[0] - s * item.box[1], s * item.box[0] + c * item.box[1]
        box[6] += turn
        box[2] += plane.height(box)
        wide = box.copy()
        wide[3:5] += 0.3
        if iou_bev(wide[None], np.concatenate(boxes)).max(initial=0.0) > 0:
            continue
        new = item.points.copy()
        new[:, 0], new[:, 1] = (
            c * item.points[:, 0] - s * item.points[:, 1],
            s * item.points[:, 0] + c * item.points[:, 1],
        )
        new[:, :3] += box[:3]
        keep = ~inside_of(points[0], box)
        points[0], owner[0], ring[0], time[0] = (
            points[0][keep], owner[0][keep], ring[0][keep], time[0][keep],
        )  # fmt: skip
        boxes.append(box[None])
        kinds.append(np.array([item.kind]))
        points.append(new.astype(np.float32))
        owner.append(np.full(len(new), total, np.int16))
        ring.append(rng.integers(64, size=len(new)).astype(np.uint16))
        time.append(np.zeros(len(new), np.float32))
        visible.append(np.ones(1))
        total += 1
    every, all_points = np.concatenate(boxes), np.concatenate(points)
    counts = count_inside(all_points, every)
    return replace(
        scan, points=all_points, owner=np.concatenate(owner), ring=np.concatenate(ring),
        time=np.concatenate(time), boxes=every.astype(np.float32), kinds=np.concatenate(kinds),
        counts=counts, visible=np.concatenate(visible), met=counts,
    )  # fmt: skip


def inside_of(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Which points (N, 3+) lie in a box, (N,) bool."""
    c, s = math.cos(box[6]), math.sin(box[6])
    dx, dy = points[:, 0] - box[0], points[:, 1] - box[1]
    flat = (np.abs(c * dx + s * dy) <= box[3] / 2) & (np.abs(c * dy - s * dx) <= box[4] / 2)
    return flat & (np.abs(points[:, 2] - box[2]) <= box[5] / 2)


@dataclass(frozen=True)
class MakeOwn:
    """Makes a batch of crops from labelled scans; whatever is random comes from the generator."""

    scans: tuple[Labelled, ...]
    """None: scans are generated for `sensor`, and objects pasted into them."""
    views: int
    pasted: int = 0
    sensor: str = "mixture"
    bank: list[Pasted] = field(default_factory=list)

    def __call__(self, count: int, generator: Generator) -> Crops:
        """So many scans, each seen `views` times."""
        crops = []
        for _ in range(100):
            for _ in range(count):
                number, seed = torch.randint(1 << 40, (2,), generator=generator).tolist()
                rng = np.random.default_rng(seed)
                if self.scans:
                    scan = read_own(self.scans[number % len(self.scans)])
                else:
                    scan = simulate(FIRST_TRAINING + number % (FIRST_TEST - FIRST_TRAINING), self.sensor)
                scan = paste(scan, self.bank, self.pasted, rng)
                for _ in range(self.views):
                    crops += crops_of(view(scan, rng))
            if crops:
                return batch_of(crops)
        raise DataError("no quadrant of any scan has 50 points: is the unit of the files metres?")


@dataclass(frozen=True)
class SameCrops:
    """The crops of a few scans, as they are, every time: what a network must be able to learn by heart."""

    scans: tuple[Labelled, ...]

    def __call__(self, count: int, generator: Generator) -> Crops:
        """Crops of `count` of the scans, drawn."""
        order = torch.randperm(len(self.scans), generator=generator)[:count].tolist()
        crops = [crop for k in order for crop in crops_of(view(read_own(self.scans[k]), None))]
        if not crops:
            raise DataError("no quadrant of these scans has 50 points: is the unit of the files metres?")
        return batch_of(crops)


def learnt(network: torch.nn.Module, scans: Sequence[Labelled]) -> dict[str, float]:
    """Recall and precision of cars and the rest on scans that a network was to learn by heart, at score .3.

    Below .9 the labels and the points do not fit together (`recurra pointcloud info --labels`).
    """
    from vision.pointcloud.metrics import Frame, recall_precision
    from vision.pointcloud.predict import NAMES, Detector

    training = network.training
    detector = Detector(network, {}, "overfit")
    detector.mirror = False
    frames: dict[str, list[Frame]] = {name: [] for name in NAMES}
    for labelled in scans:
        scan = read_own(labelled)
        plane = estimate_ground(scan.points)
        boxes, scores, kinds = detector.find(scan.points[:, :3], plane, 0.1)
        for k, name in enumerate(NAMES):
            near = (np.abs(scan.boxes[:, :2]) < LOW + SIZE - 1).all(1)
            asked = (scan.kinds == k) & (scan.counts >= LEAST_POINTS) & near
            mine = kinds == k
            frames[name].append(Frame(scan.boxes[asked], scan.boxes[~asked], boxes[mine], scores[mine]))
    network.train(training)
    out = {}
    for name, rows in frames.items():
        recall, precision, _ = recall_precision(rows, 0.5 if name == "Car" else 0.25, 0.3)
        out[f"{name} recall"] = math.nan if recall is None else recall
        out[f"{name} precision"] = math.nan if precision is None else precision
    return out


def make_of(scans: list[Labelled], views: int, pasted: int, sensor: str) -> MakeOwn:
    """The maker of batches of own scans, or of generated ones if there are none, with objects to paste.

    Raises:
        ConfigError: nothing to paste.
    """
    bank: list[Pasted] = []
    if pasted:
        sources = [read_own(labelled) for labelled in scans[:200]]
        if not scans:
            sources = [simulate(FIRST_TRAINING + k, sensor) for k in range(BANK_SCANS)]
        bank = [item for scan in sources for item in objects_of(scan)]
        if not bank:
            raise ConfigError("data.paste: no labelled object has five points.")
    return MakeOwn(tuple(scans), views, pasted, sensor, bank)
