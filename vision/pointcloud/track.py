"""Boxes over time as tracks: a constant-velocity Kalman filter each, matched by overlap seen from above.

After AB3DMOT (Weng et al. 2020, arXiv 1907.03961), written from its description. The state of a tracker is
a plain value: `as_dict` and `from_dict`.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from core.errors import ConfigError, DataError
from vision.pointcloud.boxes import wrap
from vision.pointcloud.iou import iou_bev
from vision.pointcloud.predict import Boxes

SIZE = 10
"""x, y, z, heading, length, width, height, velocities on x, y, z."""
PLACE_M, TURN_RAD, EXTENT_M = 0.2, 0.1, 0.2
"""Deviation of a detection: place, heading, sizes."""
ACCELERATION = 2.0
"""Deviation of a mover's acceleration, m/s^2."""
FIRST_SPEED = 10.0
GATE_M, GATE_SIGMA = 2.0, 3.0


@dataclass(frozen=True)
class TrackConfig:
    """When a track is believed and when it is forgotten."""

    hits: int = 3
    """Detections until a track is confirmed."""
    misses: int = 3
    """Steps without a detection until it is forgotten."""

    def __post_init__(self) -> None:
        if self.hits < 1 or self.misses < 0:
            raise ConfigError(
                f"hits must be at least 1 and misses not negative, got {self.hits}, {self.misses}."
            )


@dataclass
class Track:
    """One mover: mean and covariance of its state, and how well it was seen."""

    number: int
    name: str
    mean: np.ndarray
    covariance: np.ndarray
    score: float
    hits: int = 1
    missed: int = 0

    @property
    def box(self) -> np.ndarray:
        """x, y, z, length, width, height, heading."""
        x = self.mean
        return np.array([x[0], x[1], x[2], x[4], x[5], x[6], x[3]])


@dataclass(frozen=True)
class Tracked:
    """A confirmed track after one scan."""

    id: int
    name: str
    box: np.ndarray
    velocity: np.ndarray
    """(3,) m/s"""
    deviation_m: float
    """Of its place."""
    score: float
    missed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "id": self.id,
            "class": self.name,
            "box": [round(float(value), 3) for value in self.box],
            "velocity_mps": [round(float(value), 3) for value in self.velocity],
            "deviation_m": round(self.deviation_m, 3),
            "score": round(self.score, 4),
            "missed": self.missed,
        }


@dataclass
class Tracker:
    """`tracker.update(boxes, time_s)` -> tracks; give boxes in one frame that does not move.

    Raises:
        ConfigError: settings that cannot be.
    """

    config: TrackConfig = field(default_factory=TrackConfig)
    tracks: list[Track] = field(default_factory=list)
    time_s: float | None = None
    made: int = 0

    def update(self, boxes: Boxes, time_s: float) -> list[Tracked]:
        """Take in the boxes of a scan.

        Raises:
            DataError: time that does not go on.
        """
        if not math.isfinite(time_s) or (self.time_s is not None and time_s < self.time_s):
            raise DataError(f"the time of a scan must not go back: {time_s} after {self.time_s}.")
        step = 0.0 if self.time_s is None else time_s - self.time_s
        self.time_s = time_s
        for track in self.tracks:
            predict(track, step)
        taken = np.zeros(len(boxes), bool)
        for name in sorted({track.name for track in self.tracks}):
            own = [track for track in self.tracks if track.name == name]
            rows = np.array([k for k, kind in enumerate(boxes.names) if kind == name], int)
            for i, j in pairs(own, boxes.boxes[rows]):
                correct(own[i], boxes.boxes[rows[j]], float(boxes.scores[rows[j]]))
                taken[rows[j]] = True
        for track in self.tracks:
            track.missed += 1
        self.tracks = [track for track in self.tracks if track.missed - 1 <= self.config.misses]
        for k in np.flatnonzero(~taken):
            self.tracks.append(begin(self.made, boxes.names[k], boxes.boxes[k], float(boxes.scores[k])))
            self.made += 1
        return [self.told(track) for track in self.tracks if track.hits >= self.config.hits]

    def told(self, track: Track) -> Tracked:
        """A track as an answer."""
        deviation = math.sqrt(max(0.0, float(track.covariance[0, 0] + track.covariance[1, 1])))
        return Tracked(
            track.number, track.name, track.box, track.mean[7:].copy(), deviation, track.score,
            max(0, track.missed - 1),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The whole state as plain values."""
        tracks = [
            {**asdict(track), "mean": track.mean.tolist(), "covariance": track.covariance.tolist()}
            for track in self.tracks
        ]
        return {"config": asdict(self.config), "tracks": tracks, "time_s": self.time_s, "made": self.made}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Tracker":
        """The tracker of a saved state.

        Raises:
            DataError: not such a state.
        """
        try:
            tracks = [
                Track(**{**row, "mean": np.array(row["mean"]), "covariance": np.array(row["covariance"])})
                for row in state["tracks"]
            ]
            return cls(TrackConfig(**state["config"]), tracks, state["time_s"], state["made"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("not the state of a tracker: a part is missing or of another kind.") from error


def begin(number: int, name: str, box: np.ndarray, score: float) -> Track:
    """A track from one detection: its speed is unknown."""
    mean = np.zeros(SIZE)
    mean[:7] = measured(box)
    covariance = np.diag([*noise(), *[FIRST_SPEED**2] * 3])
    track = Track(number, name, mean, covariance, score)
    track.missed = 1  # the step that made it is not a miss
    return track


def measured(box: np.ndarray) -> np.ndarray:
    """x, y, z, heading, length, width, height of a box."""
    return np.array([box[0], box[1], box[2], box[6], box[3], box[4], box[5]], float)


def noise() -> list[float]:
    """Variances of a detection."""
    return [PLACE_M**2] * 3 + [TURN_RAD**2] + [EXTENT_M**2] * 3


def predict(track: Track, step: float) -> None:
    """Move a track on by `step` seconds."""
    move = np.eye(SIZE)
    move[0, 7] = move[1, 8] = move[2, 9] = step
    spread = np.zeros((SIZE, SIZE))
    for axis in range(3):
        spread[axis, axis] = ACCELERATION**2 * step**4 / 4
        spread[axis, 7 + axis] = spread[7 + axis, axis] = ACCELERATION**2 * step**3 / 2
        spread[7 + axis, 7 + axis] = ACCELERATION**2 * step**2
    spread[3, 3] = (0.3 * step) ** 2
    track.mean = move @ track.mean
    track.covariance = move @ track.covariance @ move.T + spread


def correct(track: Track, box: np.ndarray, score: float) -> None:
    """Take in a detection; one that points backwards is turned round first."""
    seen = measured(box)
    turn = float(wrap(np.array(seen[3] - track.mean[3])))
    if abs(turn) > math.pi / 2:
        turn = float(wrap(np.array(turn + math.pi)))
    gap = seen - track.mean[:7]
    gap[3] = turn
    part = track.covariance[:, :7]
    gain = part @ np.linalg.inv(track.covariance[:7, :7] + np.diag(noise()))
    track.mean = track.mean + gain @ gap
    track.mean[3] = float(wrap(np.array(track.mean[3])))
    track.covariance = track.covariance - gain @ part.T
    track.score, track.hits, track.missed = score, track.hits + 1, 0


def pairs(tracks: list[Track], boxes: np.ndarray) -> list[tuple[int, int]]:
    """Which track takes which box: the best overlap and nearness in all, within a gate."""
    if not tracks or not len(boxes):
        return []
    ours = np.array([track.box for track in tracks])
    away = np.hypot(ours[:, None, 0] - boxes[None, :, 0], ours[:, None, 1] - boxes[None, :, 1])
    sigma = np.array([math.sqrt(track.covariance[0, 0] + track.covariance[1, 1]) for track in tracks])
    gate = np.maximum(GATE_M, GATE_SIGMA * np.minimum(sigma, FIRST_SPEED / 3))[:, None]
    value = iou_bev(ours, boxes) + 0.5 * np.maximum(0, 1 - away / gate)
    value[away > gate] = 0
    rows, columns = linear_sum_assignment(-value)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if value[i, j] > 0]
