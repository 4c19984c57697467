"""Sweeps of one street, one after another: the vehicle drives on, traffic and people move, all else stands.

Vehicles of a lane share one speed, so that none runs into another; people and cyclists have their own.
"""

import math
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError
from vision.pointcloud.synth.cast import SWEEP_S
from vision.pointcloud.synth.layout import lay_out
from vision.pointcloud.synth.scan import TILT_DEG, Scan, cast
from vision.pointcloud.synth.scene import (
    CX,
    CY,
    CYCLIST,
    OA,
    OBJECTS,
    OCLASS,
    OLANE,
    OWNER,
    OX,
    OY,
    PEDESTRIAN,
    ROADS,
    WAVES,
    Scene,
    empty_scene,
)
from vision.pointcloud.synth.sensors import sensor

MOST_SWEEPS = 200


@dataclass(frozen=True)
class Sweep:
    """One turn of a sequence."""

    scan: Scan
    time_s: float
    pose: np.ndarray
    """(3,) x, y and yaw of the sensor's frame in the frame of the first sweep."""
    ids: np.ndarray
    """(M,) who each box of the scan is; the same through the sequence."""
    velocity: np.ndarray
    """(M, 2) of each box over ground, along the axes of the scan's frame, m/s."""


def sequence(seed: int, name: str = "mixture", sweeps: int = 10, tilted: bool = True) -> list[Sweep]:
    """Sweeps that are functions of seed and sensor.

    Raises:
        ConfigError: no such sensor, or a number of sweeps that cannot be.
    """
    if not 1 <= sweeps <= MOST_SWEEPS:
        raise ConfigError(f"a sequence has 1 to {MOST_SWEEPS} sweeps, got {sweeps}.")
    rng = np.random.default_rng(seed)
    device = sensor(name, rng)
    scene = empty_scene(seed)
    lay_out(scene)
    speed = rng.uniform(0, 14) if rng.random() < 0.6 else 0.0
    tilt = np.radians(rng.uniform(-TILT_DEG, TILT_DEG, 2)) if tilted else np.zeros(2)
    phase = float(rng.random())
    velocity = speeds(scene, rng)
    out = []
    for number in range(sweeps):
        time_s = number * SWEEP_S
        here = moved(scene, velocity, time_s, speed * time_s)
        scan = cast(here, device, speed, tilt, phase)
        assert scan.numbers is not None
        pose = np.array([speed * time_s, 0.0, 0.0])
        out.append(Sweep(scan, time_s, pose, scan.numbers, velocity[scan.numbers]))
    return out


def speeds(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Velocity (objects, 2) of every object, zero for what is parked."""
    by_lane = rng.uniform(3, 14, 16)
    out = np.zeros((OBJECTS, 2))
    for k in range(int(scene.used[1])):
        row = scene.objects[k]
        kind, lane = int(row[OCLASS]), int(row[OLANE])
        if kind == PEDESTRIAN:
            speed = rng.uniform(0.0, 1.7)
        elif kind == CYCLIST:
            speed = rng.uniform(2.5, 6.0)
        else:
            speed = by_lane[lane] if lane else 0.0
        out[k] = speed * math.cos(row[OA]), speed * math.sin(row[OA])
    return out


def moved(scene: Scene, velocity: np.ndarray, time_s: float, ego_m: float) -> Scene:
    """A scene so much later, seen from a vehicle that has driven `ego_m` along x."""
    body, objects, land = scene.body.copy(), scene.objects.copy(), scene.land.copy()
    owner = scene.code[:, OWNER]
    own = owner >= 0
    step = velocity * time_s
    body[own, CX] += step[owner[own], 0]
    body[own, CY] += step[owner[own], 1]
    objects[:, OX] += step[:, 0]
    objects[:, OY] += step[:, 1]
    body[:, CX] -= ego_m
    objects[:, OX] -= ego_m
    for road in range(2):
        land[ROADS + 8 * road] -= ego_m
    for wave in range(4):
        at = WAVES + 4 * wave
        land[at + 3] += land[at + 1] * ego_m
    # the sequence of draws goes on, so that no sweep has the noise of another
    return scene._replace(body=body, objects=objects, land=land)
