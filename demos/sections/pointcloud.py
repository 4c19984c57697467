"""Point cloud in the report: generated scans that no training saw, beside both baselines."""

from typing import Any

import numpy as np

from core.report import number, percent
from demos.markup import Stat
from demos.report import Section
from demos.sections.pointcloud_above import COLOURS, Shape, seen_from_above
from vision.pointcloud.evaluation import evaluate, hand_made_finder, network_finder
from vision.pointcloud.examples import Example, generated
from vision.pointcloud.predict import BASELINE as BEV
from vision.pointcloud.predict import Boxes, Detector

SCANS = 6
SENSORS = ("hdl64", "av2", "hdl32")
"""Sensors of the scans, in turn."""
HEAD = ("method", "cars found", "right of all found", "BEV AP at .5", "3D AP at .7")
NAMES = {"model": "model", "bev": "bird's-eye network", "hand_made": "hand-made detector"}
REACH_M = 32.0


def section(seed: int) -> Section:
    """Evaluate the bundled weights on generated scans and draw one of them."""
    detector, other = Detector.open(), Detector.open(BEV)
    beside: Any = network_finder(other)
    beside.thresholds = other.thresholds
    examples = [
        next(generated(1, SENSORS[k % len(SENSORS)], first=300_000 + 100 * seed + k)) for k in range(SCANS)
    ]
    report = evaluate(examples, detector, {"bev": beside, "hand_made": hand_made_finder()})
    cars = report["model"]["Car"]
    shown = examples[busiest(report)]
    found = detector(shown.cloud)
    return Section(
        title="Point cloud",
        question="What is around me?",
        what=f"{SCANS} generated scans of three sensors, {cars['gt30m']} cars within 30 m. A car is found "
        "when box and car share half of their union, seen from above.",
        stats=(
            Stat(percent(cars["recall30m@0.5"], 0), "of cars found", ours=True),
            Stat(percent(cars["precision30m@0.5"], 0), "of its cars are right", ours=True),
            Stat(percent(report["baselines"]["bev"]["Car"]["recall30m@0.5"], 0), "bird's-eye network"),
            Stat(percent(report["baselines"]["hand_made"]["Car"]["recall30m@0.5"], 0), "hand-made detector"),
            Stat(number(found.seconds["all"], 2, "s"), "for this scan on this machine"),
        ),
        head=HEAD,
        rows=rows(report),
        ours="model",
        compare=NAMES["bev"],
        pictures=[
            (
                from_above(shown, found),
                "The scan with most cars, from above: labels in thin lines, boxes of the model over them.",
            )
        ],
        command="recurra pointcloud detect scan.bin --html view.html",
        links=(("Point cloud in the README", "README.md#point-cloud"),
               ("Card of the weights", "vision/pointcloud/weights/README.md")),
    )  # fmt: skip


def busiest(report: dict[str, Any]) -> int:
    """The scan with most labelled cars."""
    return int(np.argmax([sum(row["class"] == "Car" for row in item["truth"]) for item in report["items"]]))


def rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table."""
    out = []
    for name, figures in {"model": report["model"], **report["baselines"]}.items():
        car = figures["Car"]
        out.append(
            (
                NAMES[name],
                percent(car["recall30m@0.5"], 0),
                percent(car["precision30m@0.5"], 0) if car["precision30m@0.5"] is not None else "",
                number(car["bev@0.5"], 0),
                number(car["3d@0.7"], 0),
            )
        )
    return out


def from_above(example: Example, found: Boxes) -> str:
    """What stands above the ground, labels in ink, boxes in their colours."""
    points = example.cloud.points
    height = points[:, 2] - found.ground.height(points)
    high = points[(height > 0.2) & (np.abs(points[:, :2]) < REACH_M).all(1)]
    seen = [k for k, name in enumerate(example.truth.names) if name in ("Car", "Van")]
    shapes = [Shape(box, "var(--r-ink)", width=0.14) for box in example.truth.boxes[seen]]
    for box, name, score in zip(found.boxes, found.names, found.scores, strict=True):
        shapes.append(Shape(box, COLOURS[name], f"{name}, score {score:.2f}", 0.3))
    alt = f"{len(found)} boxes over a generated scan of {len(example.cloud):,} points, from above"
    return seen_from_above(high, shapes, alt, REACH_M, pick=False)
