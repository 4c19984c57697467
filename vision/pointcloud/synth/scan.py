"""A labelled scan of a generated street: the whole way from a seed to points and boxes."""

from dataclasses import dataclass

import numpy as np

from vision.pointcloud.boxes import count_inside
from vision.pointcloud.synth.cast import SWEEP_S, cast_ground, cast_parts, collect
from vision.pointcloud.synth.layout import lay_out
from vision.pointcloud.synth.scene import CLASSES, OBJECTS, OCLASS, Scene, block, empty_scene
from vision.pointcloud.synth.sensors import Sensor, sensor

TILT_DEG = 2.0


@dataclass(frozen=True)
class Scan:
    """One turn of a sensor and what it saw."""

    points: np.ndarray
    """(N, 4) float32: x forward, y left, z up in metres, reflectance 0..1."""
    ring: np.ndarray
    """(N,) uint16, in the order of the sensor's table."""
    time: np.ndarray
    """(N,) float32, seconds from the middle of the turn."""
    owner: np.ndarray
    """(N,) int16: row of the object that a point lies on, negative for all else."""
    boxes: np.ndarray
    """(M, 7) float32: centre, length, width, height, heading, in the frame of the points."""
    kinds: np.ndarray
    """(M,) int64 into `CLASSES`."""
    counts: np.ndarray
    """(M,) points inside each box."""
    visible: np.ndarray
    """(M,) share of the rays towards an object that end on it, before losses."""
    met: np.ndarray
    """(M,) rays towards an object."""
    sensor: Sensor
    fired: int
    """Rays of the turn."""
    numbers: np.ndarray | None = None
    """(M,) which object of its street each box is."""
    velocity: np.ndarray | None = None
    """(M, 2) of each box over ground, m/s: of several sweeps as one scan."""

    def names(self) -> list[str]:
        """The class of each box."""
        return [CLASSES[kind] for kind in self.kinds]


def simulate(seed: int, name: str = "mixture", tilted: bool = True) -> Scan:
    """A scan that is a function of its seed and sensor.

    Args:
        seed: of street, sensor and noise.
        name: a sensor (`sensors.NAMES`), "mixture", or a TOML file.
        tilted: whether the vehicle may stand up to two degrees off the level.

    Raises:
        ConfigError: no such sensor.
    """
    rng = np.random.default_rng(seed)
    device = sensor(name, rng)
    scene = empty_scene(seed)
    lay_out(scene)
    speed = rng.uniform(0, 14) if rng.random() < 0.6 else 0.0
    tilt = np.radians(rng.uniform(-TILT_DEG, TILT_DEG, 2)) if tilted else np.zeros(2)
    return cast(scene, device, speed, tilt, float(rng.random()))


def cast(scene: Scene, device: Sensor, speed: float, tilt: np.ndarray, phase: float) -> Scan:
    """Turn a sensor once over a scene; boxes nobody's ray meets are left out."""
    table = np.tan(np.radians(device.elevations))
    rising = np.argsort(table, kind="stable")
    order = np.empty(len(table), np.int64)
    order[rising] = np.arange(len(table))
    up, columns = table[rising], device.columns
    shift = speed * SWEEP_S * (np.arange(columns) / columns - 0.5)
    shape = (len(up), columns)
    depth, owner = np.full(shape, 1e9), np.full(shape, -2, np.int32)
    albedo, incidence = np.zeros(shape), np.zeros(shape)
    mark = np.full(shape, -1, np.int32)
    count = int(scene.used[1])
    met, ended = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    sensor_z = cast_ground(scene, up, columns, device.height, shift, phase, depth, owner, albedo, incidence)
    cast_parts(scene, up, columns, sensor_z, shift, phase, depth, owner, albedo, incidence, mark, met)
    points, ring, column, whose = collect(
        scene, up, order, columns, shift, phase, device.reach, depth, owner, albedo, incidence, ended
    )
    boxes = scene.objects[:count, :7].copy()
    boxes[:, 2] -= sensor_z
    lean(points, tilt)
    lean(boxes, tilt)
    points[:, 0] += device.forward
    boxes[:, 0] += device.forward
    if not device.upright:
        points[:, 2] += device.height
        boxes[:, 2] += device.height
    boxes = boxes.astype(np.float32)
    seen = met[:count] > 0
    numbers = np.full(count + 1, -1, np.int16)
    numbers[:count][seen] = np.arange(int(seen.sum()))
    inside = count_inside(points, boxes[seen])
    return Scan(
        points=points,
        ring=ring,
        time=(SWEEP_S * (column / columns - 0.5)).astype(np.float32),
        owner=np.where(whose >= 0, numbers[np.maximum(whose, 0)], -1).astype(np.int16),
        boxes=boxes[seen],
        kinds=scene.objects[:count, OCLASS].astype(np.int64)[seen],
        counts=inside,
        visible=(ended[:count] / np.maximum(met[:count], 1))[seen],
        met=met[:count][seen],
        sensor=device,
        fired=depth.size,
        numbers=np.flatnonzero(seen),
    )


def rays_towards(boxes: np.ndarray, device: Sensor) -> np.ndarray:
    """Rays of a turn that meet each box (M, 7) given relative to the sensor: (M,) int64.

    Points in a box over these rays is its fill ratio, free of range and aspect: recorded unoccluded cars have
    .67 at 15 to 30 m and .31 beyond.
    """
    scene = empty_scene(0)
    for number, (x, y, z, length, width, height, heading) in enumerate(boxes[:OBJECTS]):
        block(scene, x, y, z - height / 2, heading, length, width, height, 0.5, 0.0, number)
    up = np.sort(np.tan(np.radians(device.elevations)))
    shape, columns = (len(up), device.columns), device.columns
    met = np.zeros(OBJECTS + 1, np.int64)
    cast_parts(
        scene, up, columns, 0.0, np.zeros(columns), 0.0, np.full(shape, 1e9), np.full(shape, -2, np.int32),
        np.zeros(shape), np.zeros(shape), np.full(shape, -1, np.int32), met,
    )  # fmt: skip
    return met[: len(boxes)]


def lean(rows: np.ndarray, tilt: np.ndarray) -> None:
    """Turn rows x, y, z, ... in place by pitch and roll in radians."""
    pitch, roll = float(tilt[0]), float(tilt[1])
    if pitch == roll == 0.0:
        return
    cp, sp, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cp, sp * sr, sp * cr], [0, cr, -sr], [-sp, cp * sr, cp * cr]])
    rows[:, :3] = (rows[:, :3].astype(np.float64) @ turn.T).astype(rows.dtype)
