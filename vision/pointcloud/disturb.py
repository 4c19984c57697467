"""A labelled scan as another vehicle would have recorded it: turned, tilted, with half of its rings."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from core.errors import ConfigError
from vision.pointcloud.boxes import wrap
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.examples import Example

BAND_DEG = 0.4
"""Height of a band of elevations: about the distance of two rings of 64."""


@dataclass(frozen=True)
class Disturbance:
    """What is done to a scan."""

    turn_deg: float = 0.0
    tilt_deg: float = 0.0
    """Pitch and roll, both."""
    thin: bool = False
    """Every second band of elevations goes."""


def parsed(text: str) -> Disturbance:
    """`turn=30,tilt=2,thin` in any choice.

    Raises:
        ConfigError: another word.
    """
    found = Disturbance()
    for word in text.split(","):
        match = re.fullmatch(r"(turn|tilt)=(-?\d+(?:\.\d+)?)", word)
        if word == "thin":
            found = replace(found, thin=True)
        elif match and match[1] == "turn":
            found = replace(found, turn_deg=float(match[2]))
        elif match and abs(float(match[2])) <= 10:
            found = replace(found, tilt_deg=float(match[2]))
        else:
            raise ConfigError(f"--disturb is turn=DEG, tilt=DEG (up to 10) and thin, got {text!r}.")
    return found


def disturbed(example: Example, how: Disturbance) -> Example:
    """The scan and its labels, moved together; call it after the camera's cut, which then no longer counts.

    Labels stay upright: a box has no pitch or roll.
    """
    cloud = example.cloud
    xyz = cloud.points.astype(np.float64)
    boxes = example.truth.boxes.copy()
    if how.thin:
        keep = every_second_band(xyz)
        xyz = xyz[keep]
    a = math.radians(how.turn_deg)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    t = math.radians(how.tilt_deg)
    pitch = np.array([[math.cos(t), 0, math.sin(t)], [0, 1, 0], [-math.sin(t), 0, math.cos(t)]])
    roll = np.array([[1, 0, 0], [0, math.cos(t), -math.sin(t)], [0, math.sin(t), math.cos(t)]])
    matrix = pitch @ roll @ turn
    boxes[:, :3] = boxes[:, :3] @ matrix.T
    boxes[:, 6] = wrap(boxes[:, 6] + a)
    moved = Cloud(
        (xyz @ matrix.T).astype(np.float32), frame=cloud.frame, format=cloud.format, name=cloud.name
    )
    return replace(example, cloud=moved, truth=replace(example.truth, boxes=boxes))


def every_second_band(xyz: np.ndarray) -> np.ndarray:
    """Which points (N, 3) lie in every second band of elevations, (N,) bool."""
    flat = np.hypot(xyz[:, 0], xyz[:, 1])
    band = np.floor(np.degrees(np.arctan2(xyz[:, 2], flat)) / BAND_DEG).astype(int)
    return band % 2 == 0
