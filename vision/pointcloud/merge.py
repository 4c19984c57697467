"""Several sweeps as one scan: earlier ones moved by the vehicle's motion, every point with its age.

Each sweep is levelled by its own ground before it is moved, so that neither slope nor tilt tears them apart.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core.errors import DataError
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.ground import estimate_ground

if TYPE_CHECKING:
    from vision.pointcloud.synth.scan import Scan
    from vision.pointcloud.synth.sequence import Sweep


def between(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """x, y, yaw of a pose (3,) in the frame of another one."""
    c, s = math.cos(old[2]), math.sin(old[2])
    dx, dy = new[0] - old[0], new[1] - old[1]
    return np.array([c * dx + s * dy, c * dy - s * dx, math.remainder(new[2] - old[2], 2 * math.pi)])


def brought(sweeps: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Points (N, 3) of each sweep in the frame of the last one.

    Args:
        poses: (3,) x, y, yaw of each sweep in one frame that does not move.
    """
    last = estimate_ground(sweeps[-1])
    out = []
    for points, pose in zip(sweeps[:-1], poses[:-1], strict=True):
        xyz = points[:, :3].astype(np.float64)
        xyz[:, 2] -= estimate_ground(points).height(xyz)
        x, y, yaw = between(np.asarray(poses[-1]), np.asarray(pose))
        c, s = math.cos(yaw), math.sin(yaw)
        xyz[:, 0], xyz[:, 1] = c * xyz[:, 0] - s * xyz[:, 1] + x, s * xyz[:, 0] + c * xyz[:, 1] + y
        xyz[:, 2] += last.height(xyz)
        out.append(xyz.astype(np.float32))
    return [*out, sweeps[-1][:, :3].astype(np.float32)]


def merged(sweeps: Sequence["Sweep"]) -> "Scan":
    """A generated drive as one scan with the labels of its last sweep; times count back from it.

    What the labels say of points (counts, owners) is said of the last sweep alone.
    """
    last = sweeps[-1].scan
    places = brought([sweep.scan.points for sweep in sweeps], [sweep.pose for sweep in sweeps])
    ages = [
        np.full(len(at), sweep.time_s - sweeps[-1].time_s) for at, sweep in zip(places, sweeps, strict=True)
    ]
    nobody = [np.full(len(at), -1, np.int16) for at in places[:-1]]
    every = np.concatenate(places)
    return replace(
        last,
        points=np.column_stack([every, np.concatenate([sweep.scan.points[:, 3] for sweep in sweeps])]),
        ring=np.concatenate([sweep.scan.ring for sweep in sweeps]),
        time=np.concatenate(ages).astype(np.float32),
        owner=np.concatenate([*nobody, last.owner]),
        velocity=sweeps[-1].velocity.astype(np.float32),
    )


def merged_clouds(clouds: Sequence[Cloud], poses: Sequence[np.ndarray], times: Sequence[float]) -> Cloud:
    """Clouds of one sensor, oldest first, as the last one, with the time of every point in seconds.

    Raises:
        DataError: axes that are not x ahead and y left, in which poses are given.
    """
    turned = [cloud.name for cloud in clouds if cloud.frame != "xyz"]
    if turned:
        raise DataError(f"{turned[0]}: sweeps are merged with x ahead and y left; give --axes xyz.")
    places = brought([cloud.points for cloud in clouds], poses)
    time = np.concatenate([np.full(len(at), second) for at, second in zip(places, times, strict=True)])
    remarks = tuple(dict.fromkeys(remark for cloud in clouds for remark in cloud.remarks))
    return replace(
        clouds[-1], points=np.concatenate(places), intensity=None, ring=None, time=time, remarks=remarks
    )
