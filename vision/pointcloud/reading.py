"""A file as a cloud in metres with z up: axes and unit, given or found, and what was found out about it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError
from core.jobs import Job
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.data import read_cloud
from vision.pointcloud.ground import NO_GROUND, estimate_ground
from vision.pointcloud.predict import NAMES, to_ours

NEAR_M, FAR_M = 2.5, 60.0
"""Median ranges between which a scan is taken to be in metres."""
UNITS = ((0.001, "millimetres"), (0.01, "centimetres"), (0.3048, "feet"))


@dataclass(frozen=True)
class Reading:
    """What a person says about a file."""

    axes: str | None = None
    """"xyz", "yx", or three signed letters such as "-yxz": which column is forward, left, up. None: found."""
    unit: float | None = None
    """Metres of one unit; None: found."""
    ego: str | None = None
    """L,W of the own vehicle around the origin, whose returns go."""

    def __post_init__(self) -> None:
        if self.axes is not None and self.axes not in ("xyz", "yx"):
            letters = re.findall(r"-?[xyz]", self.axes)
            if "".join(letters) != self.axes or sorted(word[-1] for word in letters) != ["x", "y", "z"]:
                raise ConfigError(
                    f"--axes is xyz, yx, or three signed letters such as -yxz; got {self.axes!r}."
                )
        if self.unit is not None and not 0 < self.unit < math.inf:
            raise ConfigError(f"--unit is metres of one unit, above 0; got {self.unit}.")
        if self.ego is not None:
            ego_size(self.ego)


def ego_size(text: str) -> tuple[float, float]:
    """Length and width in metres of `L,W`.

    Raises:
        ConfigError: no two numbers above 0.
    """
    try:
        length, width = (float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--ego wants length,width in metres, such as 4.6,2; got {text!r}.") from error
    if not (0 < length < math.inf and 0 < width < math.inf):
        raise ConfigError(f"--ego wants a length and a width above 0 in metres; got {text!r}.")
    return length, width


def turn_of(axes: str) -> np.ndarray:
    """The matrix (3, 3) that brings rows of a file with such axes to x forward, y left, z up."""
    matrix = np.zeros((3, 3))
    for row, word in enumerate(re.findall(r"-?[xyz]", axes)):
        matrix[row, "xyz".index(word[-1])] = -1.0 if word[0] == "-" else 1.0
    return matrix


def median_range(points: np.ndarray) -> float:
    """The middle distance of a scan's points from its origin."""
    return (
        float(np.median(np.linalg.norm(points[:: max(1, len(points) // 20_000)], axis=1)))
        if len(points)
        else 0.0
    )


def guess_unit(cloud: Cloud) -> tuple[float, str]:
    """Metres of one unit, and why."""
    middle = median_range(cloud.points)
    if not middle or NEAR_M <= middle <= FAR_M or cloud.origin is not None:
        return 1.0, f"median range {middle:.1f}"
    for unit, name in UNITS:
        if NEAR_M <= middle * unit <= FAR_M:
            return unit, f"median range {middle:.0f} is that of a scan in {name}"
    return 1.0, f"median range {middle:.1f} fits no unit"


def guess_axes(cloud: Cloud) -> tuple[str, str]:
    """The axes of a file whose up may be any of three, with either sign, and why."""
    if cloud.frame != "xyz":
        return cloud.frame, "the layout of the file"
    supports = {
        axes: ground_score(cloud.points @ turn_of(axes).T.astype(np.float32))
        for axes in ("xyz", "x-y-z", "x-zy", "xz-y", "-zyx", "zy-x")  # one for each way that up may point
    }
    best = max(supports, key=lambda name: supports[name])
    if supports["xyz"] >= NO_GROUND or supports[best] < 2 * supports["xyz"] or supports[best] < NO_GROUND:
        return "xyz", f"ground support {supports['xyz']:.2f}"
    return best, f"ground support {supports[best]:.2f} with {best}, {supports['xyz']:.2f} with xyz"


def ground_score(points: np.ndarray) -> float:
    """How much speaks for a ground below these points: its support, if most points lie above it."""
    plane = estimate_ground(points)
    above = (points[:, 2] - plane.height(points) > -0.25).mean() if len(points) else 0.0
    below_sensor = plane.c < 0.3
    return plane.support if above > 0.9 and below_sensor else 0.0


def read_as(path: str | Path, reading: Reading) -> Cloud:
    """A file in metres with its axes brought to ours (or known as "yx").

    Raises:
        DataError: the file is no point cloud.
    """
    return as_said(read_cloud(path), reading)


def as_said(cloud: Cloud, reading: Reading) -> Cloud:
    """A cloud in metres with its axes brought to ours (or known as "yx")."""
    remarks = list(cloud.remarks)
    if reading.unit is None:
        unit, reason = guess_unit(cloud)
        if unit != 1.0:
            remarks.append(f"{cloud.name}: {reason}; taken as such (--unit 1 if it is not).")
    else:
        unit = reading.unit
    if unit != 1.0:
        origin = None if cloud.origin is None else cloud.origin * unit
        cloud = replace(cloud, points=cloud.points * np.float32(unit), origin=origin)
    axes = reading.axes
    if axes is None:
        axes, reason = guess_axes(cloud)
        if axes not in ("xyz", "yx"):
            remarks.append(
                f"{cloud.name}: {reason}; boxes come in the turned frame (--axes xyz if it is not)."
            )
    if axes in ("xyz", "yx"):
        cloud = replace(cloud, frame=axes)
    else:
        turn = turn_of(axes)
        origin = None if cloud.origin is None else turn @ cloud.origin
        cloud = replace(cloud, points=cloud.points @ turn.T.astype(np.float32), frame="xyz", origin=origin)
    if reading.ego is not None:
        length, width = ego_size(reading.ego)
        ours = to_ours(cloud.points, cloud.frame)
        keep = (np.abs(ours[:, 0]) > length / 2) | (np.abs(ours[:, 1]) > width / 2)
        cloud = kept(cloud, keep)
    return replace(cloud, remarks=tuple(remarks))


def kept(cloud: Cloud, keep: np.ndarray) -> Cloud:
    """The points of a mask."""
    parts = {}
    for name in ("intensity", "ring", "time"):
        values = getattr(cloud, name)
        parts[name] = None if values is None else values[keep]
    return replace(cloud, points=cloud.points[keep], **parts)


def about(cloud: Cloud) -> dict[str, Any]:
    """What `info` tells."""
    ours = to_ours(cloud.points, cloud.frame)
    plane = estimate_ground(ours)
    low, high = (ours.min(0), ours.max(0)) if len(ours) else (np.zeros(3), np.zeros(3))
    channels = [
        "x",
        "y",
        "z",
        *(name for name in ("intensity", "ring", "time") if getattr(cloud, name) is not None),
    ]
    reasons = [f"median range {median_range(cloud.points):.1f} m", f"ground support {plane.support:.2f}"]
    return {
        "name": cloud.name,
        "format": cloud.format,
        "points": len(cloud),
        "dropped": cloud.dropped,
        "channels": channels,
        "low_m": [round(float(value), 2) for value in low],
        "high_m": [round(float(value), 2) for value in high],
        "rings": None if cloud.ring is None else len(np.unique(cloud.ring)),
        "ground": {
            "height_m": round(plane.c, 3),
            "pitch_deg": round(plane.tilt_deg[0], 2),
            "roll_deg": round(plane.tilt_deg[1], 2),
            "support": round(plane.support, 3),
            "found": plane.support >= NO_GROUND,
        },
        "axes": cloud.frame,
        "unit_m": 1.0,
        "reason": "; ".join([*reasons, *cloud.remarks]),
    }


def told(facts: dict[str, Any]) -> list[str]:
    """What `about` found, for people."""
    ground = facts["ground"]
    tilt = f"pitch {ground['pitch_deg']:.1f}, roll {ground['roll_deg']:.1f} degrees"
    return [
        f"{facts['name']}: {facts['format']}, {facts['points']:,} points, {', '.join(facts['channels'])}",
        f"  from {facts['low_m']} to {facts['high_m']} m; axes {facts['axes']} ({facts['reason']})",
        f"  ground {ground['height_m']:.2f} m, {tilt} (support {ground['support']:.2f})"
        + ("" if ground["found"] else ": no ground found; give --z-offset"),
    ]


def thresholds_of(text: str | None) -> dict[str, float]:
    """`.4` or `Car=.4,Pedestrian=.3` as scores by class.

    Raises:
        ConfigError: something else.
    """
    if text is None:
        return {}
    try:
        if "=" not in text:
            value = float(text)
            found: dict[str, float] = {name: value for name in NAMES}
        else:
            found = {name: float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise ConfigError(
            f"--score is a number or pairs such as Car=.4,Pedestrian=.3; got {text!r}."
        ) from error
    wrong = [name for name in found if name not in NAMES]
    if wrong or not all(0 <= value <= 1 for value in found.values()):
        raise ConfigError(f"--score is 0 to 1 for {', '.join(NAMES)}; got {text!r}.")
    return found


def sharded(jobs: Sequence[Job], shard: str | None) -> list[Job]:
    """Every n-th job from the i-th on, for `i/n`.

    Raises:
        ConfigError: not of this form.
    """
    if shard is None:
        return list(jobs)
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not found or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--shard is i/n with i from 0 to n - 1; got {shard!r}.")
    return list(jobs)[int(found[1]) :: int(found[2])]
