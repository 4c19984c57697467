"""The plane of the ground, height and tilt, from the lowest points of a scan.

The plane is z = a x + b y + c. Networks see heights above it; boxes are lifted back by it. A wrong height
is the commonest reason for finding nothing on one's own data, so it is never a setting.
"""

import math
from dataclasses import dataclass

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.synth.chance import dice, draw

REACH_M, TRIALS, STEEPEST = 30, 400, 0.13
NO_GROUND = 0.1
"""Support below which no ground was found."""


@dataclass(frozen=True)
class Plane:
    """z = a x + b y + c, and how much of the low cells agrees with it."""

    a: float
    b: float
    c: float
    support: float
    """Score over cells: .15 to .4 on real scans, below .1 there is no ground."""

    def height(self, xy: np.ndarray) -> np.ndarray:
        """z of the plane under rows x, y, ..."""
        return self.a * xy[..., 0] + self.b * xy[..., 1] + self.c

    @property
    def tilt_deg(self) -> tuple[float, float]:
        """Pitch (nose up is positive) and roll of the ground in the frame, in degrees."""
        return math.degrees(math.atan(self.a)), math.degrees(math.atan(self.b))


@compiled
def lowest_cells(points, out):  # noqa: ANN001, ANN201
    """The lowest point of each 1 m cell within 30 m, as rows x, y, z, weight; gives how many."""
    size = 2 * REACH_M
    low = np.full((size, size), 1e9)
    where = np.full((size, size), -1, np.int64)
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        if abs(x) >= REACH_M or abs(y) >= REACH_M or x * x + y * y > REACH_M * REACH_M:
            continue
        i, j = int(x + REACH_M), int(y + REACH_M)
        if z < low[i, j]:
            low[i, j], where[i, j] = z, p
    count = 0
    for i in range(size):
        for j in range(size):
            p = where[i, j]
            if p >= 0:
                x, y = points[p, 0], points[p, 1]
                out[count, 0], out[count, 1], out[count, 2] = x, y, points[p, 2]
                out[count, 3] = 1 / (1 + math.sqrt(x * x + y * y) / 15)
                count += 1
    return count


@compiled
def score(cells, a, b, c):  # noqa: ANN001, ANN201
    total = 0.0
    for k in range(len(cells)):
        d = cells[k, 2] - a * cells[k, 0] - b * cells[k, 1] - c
        if abs(d) < 0.15:
            total += cells[k, 3] * (1 - abs(d) / 0.3)
        elif d < -0.25:
            total -= 0.7 * cells[k, 3]
    return total - 8 * (abs(a) + abs(b))


@compiled
def search(cells, state, best):  # noqa: ANN001, ANN201
    """The best of many planes through three cells; `best` takes a, b, c. Gives its score."""
    n = len(cells)
    top = -1e9
    for _ in range(TRIALS):
        p, q, r = int(n * draw(state)), int(n * draw(state)), int(n * draw(state))
        ux, uy, uz = cells[q, 0] - cells[p, 0], cells[q, 1] - cells[p, 1], cells[q, 2] - cells[p, 2]
        vx, vy, vz = cells[r, 0] - cells[p, 0], cells[r, 1] - cells[p, 1], cells[r, 2] - cells[p, 2]
        area = ux * vy - uy * vx
        if abs(area) < 20:
            continue
        a, b = (uz * vy - uy * vz) / area, (ux * vz - uz * vx) / area
        if abs(a) > STEEPEST or abs(b) > STEEPEST:
            continue
        c = cells[p, 2] - a * cells[p, 0] - b * cells[p, 1]
        value = score(cells, a, b, c)
        if value > top:
            top = value
            best[0], best[1], best[2] = a, b, c
    if top == -1e9:  # too few cells for a slope: the median of the lowest
        best[0] = best[1] = 0.0
        best[2] = np.median(cells[:, 2])
        top = score(cells, 0.0, 0.0, best[2])
    return top


def estimate_ground(points: np.ndarray) -> Plane:
    """The ground under a scan (N, 3+) in metres with z up. No points give a plane without support."""
    points = np.ascontiguousarray(points, np.float32)
    cells = np.empty((4 * REACH_M * REACH_M, 4))
    count = lowest_cells(points, cells)
    if not count:
        return Plane(0.0, 0.0, 0.0, 0.0)
    cells, best = cells[:count], np.zeros(3)
    search(cells, dice(0), best)
    design = np.column_stack([cells[:, :2], np.ones(count)])
    for _ in range(3):
        d = cells[:, 2] - design @ best
        weight = cells[:, 3] * np.exp(-0.5 * (d / 0.12) ** 2) * ((d < 0.2) & (d > -0.3))
        normal = (design * weight[:, None]).T @ design + np.diag([200.0, 200.0, 1e-6])
        best = np.linalg.solve(normal, (design * weight[:, None]).T @ cells[:, 2])
    a, b, c = (float(value) for value in best)
    return Plane(a, b, c, max(0.0, score(cells, a, b, c)) / count)
