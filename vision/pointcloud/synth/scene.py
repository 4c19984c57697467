"""A street as convex parts and objects, in arrays that compiled code fills and casts rays at.

A part is a box in its own frame (turned about z), cut by up to eight planes, or the ellipsoid inside that
box. Solid parts stop a ray at their surface; parts with a density stop it inside, or let it leave.
"""

import math
from typing import NamedTuple

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.synth.chance import dice

PARTS, OBJECTS, CUTS = 6000, 600, 8
GRID, CELL = 360, 0.5
"""Cells of the map of taken places, and their size in metres: 180 m around the sensor."""
CLASSES = ("Car", "Pedestrian", "Cyclist", "Van", "Truck")
CAR, PEDESTRIAN, CYCLIST, VAN, TRUCK = range(5)

# columns of Scene.body
CX, CY, CZ, COS, SIN, X0, X1, Y0, Y1, Z0, Z1 = range(11)
ALBEDO, POWER, DENSITY, GLASS, GLASS_LOW, GLASS_HIGH, PERIOD, SHARE, STOREY = range(11, 20)
# columns of Scene.code
SHAPE, CUT, OWNER, KIND = range(4)
BLOCK, ELLIPSOID = 0, 1
PLAIN, CABIN, FACADE = 0, 1, 2
# columns of Scene.objects: box of the label, class, lane of moving traffic (0 for none)
OX, OY, OZ, OL, OW, OH, OA, OCLASS, OLANE = range(9)
# places in Scene.land
ROADS, KERB, ROUGH, WAVES, TALL_GRASS, LOOSE, REGION = 0, 16, 17, 18, 34, 35, 36
BANKS = 40
TURN_COS, TURN_SIN = 6, 7
"""Of a road, beside x, y, turn, bend, half width."""


class Scene(NamedTuple):
    """Arrays of a street; `used` counts parts and objects."""

    body: np.ndarray
    cuts: np.ndarray
    code: np.ndarray
    objects: np.ndarray
    taken: np.ndarray
    land: np.ndarray
    used: np.ndarray
    dice: np.ndarray


def empty_scene(seed: int) -> Scene:
    """A scene without anything, with its own random numbers."""
    return Scene(
        body=np.zeros((PARTS, 20)),
        cuts=np.zeros((PARTS, CUTS, 4)),
        code=np.zeros((PARTS, 4), np.int32),
        objects=np.zeros((OBJECTS, 9)),
        taken=np.zeros((GRID, GRID), np.uint8),
        land=np.zeros(64),
        used=np.zeros(2, np.int64),
        dice=dice(seed),
    )


@compiled
def put(scene, shape, x, y, z, heading, x0, x1, y0, y1, z0, z1, albedo, density, owner):  # noqa: ANN001, ANN201
    """Add a part whose frame lies at (x, y, z) and is turned by `heading`; gives its row."""
    k = min(scene.used[0], PARTS - 1)
    scene.used[0] = k + 1
    row = scene.body[k]
    row[CX], row[CY], row[CZ] = x, y, z
    row[COS], row[SIN] = math.cos(heading), math.sin(heading)
    row[X0], row[X1], row[Y0], row[Y1], row[Z0], row[Z1] = x0, x1, y0, y1, z0, z1
    row[ALBEDO], row[POWER], row[DENSITY], row[GLASS] = albedo, 0.5, density, 0.0
    code = scene.code[k]
    code[SHAPE], code[CUT], code[OWNER], code[KIND] = shape, 0, owner, PLAIN
    return k


@compiled
def cut(scene, k, nx, ny, nz, x, y, z):  # noqa: ANN001, ANN201
    """Cut part k by the plane through (x, y, z) of its frame with the outward normal n."""
    size = math.sqrt(nx * nx + ny * ny + nz * nz)
    at = scene.code[k, CUT]
    plane = scene.cuts[k, at]
    plane[0], plane[1], plane[2] = nx / size, ny / size, nz / size
    plane[3] = (nx * x + ny * y + nz * z) / size
    scene.code[k, CUT] = at + 1


@compiled
def block(scene, x, y, z, heading, length, width, height, albedo, density, owner):  # noqa: ANN001, ANN201
    """A box that stands on z, with its centre over (x, y)."""
    return put(
        scene, BLOCK, x, y, z, heading,
        -length / 2, length / 2, -width / 2, width / 2, 0.0, height, albedo, density, owner,
    )  # fmt: skip


@compiled
def ball(scene, x, y, z, heading, a, b, c, albedo, density, owner):  # noqa: ANN001, ANN201
    """An ellipsoid with half axes a, b, c around (x, y, z)."""
    return put(scene, ELLIPSOID, x, y, z, heading, -a, a, -b, b, -c, c, albedo, density, owner)


@compiled
def add_object(scene, x, y, z, length, width, height, heading, kind):  # noqa: ANN001, ANN201
    """A labelled object that stands on z; gives its number."""
    k = min(scene.used[1], OBJECTS - 1)
    scene.used[1] = k + 1
    row = scene.objects[k]
    row[OX], row[OY], row[OZ] = x, y, z + height / 2
    row[OL], row[OW], row[OH], row[OA], row[OCLASS] = length, width, height, heading, kind
    return k


@compiled
def claim(scene, x, y, length, width, heading, over):  # noqa: ANN001, ANN201
    """Take the cells under a rectangle if all are below `over`; gives whether it did.

    Cells hold 0 (free), 1 (pavement's edge and road), 2 (taken). Vehicles pass over=2, the rest over=1.
    """
    c, s = math.cos(heading), math.sin(heading)
    along, across = int(length / CELL) + 2, int(width / CELL) + 2
    for write in range(2):
        for i in range(along):
            for j in range(across):
                u = (i / (along - 1.0) - 0.5) * length
                v = (j / (across - 1.0) - 0.5) * width
                a = int((x + c * u - s * v) / CELL + GRID / 2)
                b = int((y + s * u + c * v) / CELL + GRID / 2)
                if a < 0 or b < 0 or a >= GRID or b >= GRID:
                    return False
                if write:
                    scene.taken[a, b] = 2
                elif scene.taken[a, b] >= over:
                    return False
    return True


@compiled
def place(scene, road, s, d):  # noqa: ANN001, ANN201
    """(x, y, heading) at s along a road and d to the left of its middle."""
    at = ROADS + 8 * road
    x0, y0, turn, bend = scene.land[at], scene.land[at + 1], scene.land[at + 2], scene.land[at + 3]
    x, y = s - bend * s * d, 0.5 * bend * s * s + d
    c, n = scene.land[at + TURN_COS], scene.land[at + TURN_SIN]
    return x0 + c * x - n * y, y0 + n * x + c * y, turn + math.atan(bend * s)


@compiled
def offset(scene, road, x, y):  # noqa: ANN001, ANN201
    """d of the point (x, y): how far to the left of the middle of a road it lies."""
    at = ROADS + 8 * road
    x0, y0, bend = scene.land[at], scene.land[at + 1], scene.land[at + 3]
    c, n = scene.land[at + TURN_COS], scene.land[at + TURN_SIN]
    s = c * (x - x0) + n * (y - y0)
    return c * (y - y0) - n * (x - x0) - 0.5 * bend * s * s


@compiled
def half_width(scene, road):  # noqa: ANN001, ANN201
    """Half the width of a road; 0 when there is none."""
    return scene.land[ROADS + 8 * road + 4]


@compiled
def outside(scene, x, y):  # noqa: ANN001, ANN201
    """Metres behind the nearest kerb; negative on a road."""
    out = abs(offset(scene, 0, x, y)) - half_width(scene, 0)
    if half_width(scene, 1) > 0:
        out = min(out, abs(offset(scene, 1, x, y)) - half_width(scene, 1))
    return out


@compiled
def ground(scene, x, y):  # noqa: ANN001, ANN201
    """Height of the ground: waves, a kerb, and a bank on each side of the main road."""
    land = scene.land
    z = 0.0
    for wave in range(4):
        at = WAVES + 4 * wave
        if land[at] > 0:
            z += land[at] * math.sin(land[at + 1] * x + land[at + 2] * y + land[at + 3])
    out = outside(scene, x, y)
    if out > 0:
        z += land[KERB] * min(1.0, out / 0.15)
        side = BANKS if offset(scene, 0, x, y) > 0 else BANKS + 3
        if land[side + 1] != 0.0 and out > land[side]:
            rise = min(abs(land[side + 1]) * (out - land[side]), land[side + 2])
            z += rise if land[side + 1] > 0 else -rise
    return z
