"""Everything that is not a road user: trees, facades, hedges, fences, walls, heaps, poles and signs.

Most false alarms of early networks lay on such things, so there is more of it than of cars.
"""

import math

from core.kernels.jit import compiled
from vision.pointcloud.synth.chance import arrivals, between, draw, normal
from vision.pointcloud.synth.movers import bicycle
from vision.pointcloud.synth.scene import (
    BLOCK,
    FACADE,
    KIND,
    PERIOD,
    SHARE,
    STOREY,
    ball,
    block,
    ground,
    place,
    put,
)


@compiled
def tree(scene, x, y):  # noqa: ANN001, ANN201
    """A trunk with four to eight clouds of leaves, whose lowest may hang over cars."""
    dice = scene.dice
    z = ground(scene, x, y)
    width = between(dice, 0.07, 0.3) * 2
    base, spread = between(dice, 1.3, 3.5), between(dice, 1.0, 3.0)
    block(scene, x, y, z, 0.0, width, width, base + 1.5, 0.25, 0.0, -1)
    for _ in range(4 + int(5 * draw(dice))):
        a, b, c = between(dice, 0.5, 1.0) * spread, between(dice, 0.5, 1.0) * spread, between(dice, 0.6, 1.8)
        u, v = normal(dice, 0.0, 0.4 * spread), normal(dice, 0.0, 0.4 * spread)
        up = base + c + between(dice, 0.0, 3.0)
        ball(scene, x + u, y + v, z + up, between(dice, 0.0, 3.1), a, b, c, 0.35, between(dice, 0.5, 2.5), -1)


@compiled
def pole(scene, x, y):  # noqa: ANN001, ANN201
    """A lamp or sign post, half of them with a plate."""
    dice = scene.dice
    z = ground(scene, x, y)
    width, height = between(dice, 0.06, 0.3), between(dice, 2.2, 8.0)
    block(scene, x, y, z, 0.0, width, width, height, 0.3, 0.0, -1)
    if draw(dice) < 0.5:
        up = between(dice, 1.7, 2.6)
        size = between(dice, 0.4, 1.2)
        put(
            scene, BLOCK, x, y, z, between(dice, 0.0, 3.1),
            -0.03, 0.03, -size / 2, size / 2, up, up + size, 0.7, 0.0, -1,
        )  # fmt: skip


@compiled
def bush(scene, x, y, size, height):  # noqa: ANN001, ANN201
    """One ellipsoid of leaves that touches the ground."""
    dice = scene.dice
    z = ground(scene, x, y)
    ball(
        scene, x, y, z + 0.45 * height, between(dice, 0.0, 3.1), size, size * between(dice, 0.6, 1.0),
        0.55 * height, 0.35, between(dice, 2.0, 8.0), -1,
    )  # fmt: skip


@compiled
def green_row(scene, road, s0, s1, d):  # noqa: ANN001, ANN201
    """A row of plants .3 to 2.2 m high, with gaps and uneven heights."""
    dice = scene.dice
    height, gaps, uneven = between(dice, 0.3, 2.2), between(dice, 0.0, 0.3), between(dice, 0.05, 0.5)
    density, step = between(dice, 4.0, 12.0), between(dice, 0.5, 1.5)
    s = s0
    while s < s1:
        if draw(dice) > gaps:
            x, y, heading = place(scene, road, s, d + normal(dice, 0.0, 0.1))
            tall = height * (1 + uneven * between(dice, -1.0, 1.0))
            ball(
                scene, x, y, ground(scene, x, y) + 0.42 * tall, heading,
                0.75 * step, between(dice, 0.25, 0.7), 0.58 * tall, 0.35, density, -1,
            )  # fmt: skip
        s += step


@compiled
def fence(scene, road, s0, s1, d):  # noqa: ANN001, ANN201
    """Posts with a mesh, or with two rails."""
    dice = scene.dice
    height, step = between(dice, 0.7, 1.9), between(dice, 1.5, 3.5)
    mesh, density = draw(dice) < 0.6, between(dice, 1.0, 12.0)
    s = s0
    while s < s1:
        x, y, _ = place(scene, road, s, d)
        z = ground(scene, x, y)
        block(scene, x, y, z, 0.0, 0.08, 0.08, height, 0.3, 0.0, -1)
        x, y, heading = place(scene, road, s + step / 2, d)
        if mesh:
            block(scene, x, y, z, heading, step, 0.06, height, 0.3, density, -1)
        else:
            for share in (0.45, 0.9):
                block(scene, x, y, z + share * height - 0.05, heading, step, 0.05, 0.1, 0.3, 0.0, -1)
        s += step


@compiled
def wall(scene, road, s0, s1, d):  # noqa: ANN001, ANN201
    """A low wall in pieces; in half of the gardens plants stand behind and above it."""
    dice = scene.dice
    height, thick = between(dice, 0.3, 1.6), between(dice, 0.12, 0.4)
    s = s0
    while s < s1 - 0.5:
        length = min(s1 - s, between(dice, 2.0, 7.0))
        x, y, heading = place(scene, road, s + length / 2, d)
        block(scene, x, y, ground(scene, x, y) - 0.1, heading, length, thick, height + 0.1, 0.3, 0.0, -1)
        s += length + (between(dice, 0.8, 3.0) if draw(dice) < 0.2 else 0.0)
    if draw(dice) < 0.5:
        s = s0
        while s < s1:
            x, y, _ = place(scene, road, s, d + (0.7 if d > 0 else -0.7))
            bush(scene, x, y, between(dice, 0.3, 0.9), height + between(dice, 0.0, 1.2))
            s += between(dice, 0.7, 2.5)


@compiled
def heap(scene, x, y, heading):  # noqa: ANN001, ANN201
    """Something with a car's footprint that is none: corners of walls, boxes, undergrowth, containers."""
    dice = scene.dice
    length, width, height = between(dice, 1.2, 5.5), between(dice, 0.6, 2.4), between(dice, 0.4, 2.2)
    z = ground(scene, x, y) - 0.05
    c, s = math.cos(heading), math.sin(heading)
    u = draw(dice)
    if u < 0.25:
        thick = between(dice, 0.1, 0.35)
        block(scene, x - s * width / 2, y + c * width / 2, z, heading, length, thick, height, 0.3, 0.0, -1)
        block(
            scene, x + c * length / 2, y + s * length / 2, z, heading, thick, width,
            height * between(dice, 0.5, 1.0), 0.3, 0.0, -1,
        )  # fmt: skip
        if draw(dice) < 0.5:
            block(
                scene, x - c * length / 2, y - s * length / 2, z, heading, thick, width,
                height * between(dice, 0.5, 1.0), 0.3, 0.0, -1,
            )  # fmt: skip
    elif u < 0.5:
        for _ in range(3 + int(5 * draw(dice))):
            p, q = between(dice, -0.5, 0.5) * length, between(dice, -0.5, 0.5) * width
            block(
                scene, x + c * p - s * q, y + s * p + c * q, z, heading + normal(dice, 0.0, 0.4),
                between(dice, 0.3, 1.6), between(dice, 0.3, 1.2), height * between(dice, 0.3, 1.0),
                between(dice, 0.1, 0.5), 0.0, -1,
            )  # fmt: skip
    elif u < 0.85:
        for _ in range(4 + int(9 * draw(dice))):
            p, q = between(dice, -0.5, 0.5) * length, between(dice, -0.5, 0.5) * width
            bush(
                scene, x + c * p - s * q, y + s * p + c * q,
                between(dice, 0.3, 0.9), height * between(dice, 0.4, 1.0),
            )  # fmt: skip
    else:
        block(scene, x, y, z, heading, length, width, height, between(dice, 0.1, 0.6), 0.0, -1)


@compiled
def small_thing(scene, x, y, heading):  # noqa: ANN001, ANN201
    """Bins, boxes, bollards, bicycle racks, benches; almost half of them small heaps."""
    dice = scene.dice
    u = draw(dice)
    z = ground(scene, x, y)
    if u < 0.45:
        heap(scene, x, y, heading)
    elif u < 0.6:
        block(
            scene, x, y, z, heading, between(dice, 0.4, 0.8), between(dice, 0.4, 0.7),
            between(dice, 0.8, 1.4), 0.2, 0.0, -1,
        )  # fmt: skip
    elif u < 0.7:
        block(
            scene, x, y, z, heading, between(dice, 0.5, 1.6), between(dice, 0.3, 0.8),
            between(dice, 0.5, 1.8), 0.3, 0.0, -1,
        )  # fmt: skip
    elif u < 0.8:
        for k in range(3):
            block(
                scene, x + 1.5 * k * math.cos(heading), y + 1.5 * k * math.sin(heading), z, heading,
                0.15, 0.15, 0.9, 0.3, 0.0, -1,
            )  # fmt: skip
    elif u < 0.9:
        for k in range(1 + int(4 * draw(dice))):
            across = heading + 1.4
            bicycle(scene, x + 0.6 * k * math.cos(heading), y + 0.6 * k * math.sin(heading), z, across, -1)
    else:
        bush(scene, x, y, between(dice, 0.3, 1.2), between(dice, 0.3, 2.0))


@compiled
def building(scene, road, s, d, length, depth, height):  # noqa: ANN001, ANN201
    """A block with windows and, before it, columns, steps, bays, awnings and boxes.

    d is where the front lies; the block goes on for `depth` away from the road.
    """
    dice = scene.dice
    side = 1.0 if d > 0 else -1.0
    x, y, heading = place(scene, road, s, d + side * depth / 2)
    z = ground(scene, *place(scene, road, s, d)[:2]) - 1.0
    k = block(scene, x, y, z, heading, length, depth, height + 1.0, between(dice, 0.2, 0.5), 0.0, -1)
    if draw(dice) < 0.75:
        scene.code[k, KIND] = FACADE
        row = scene.body[k]
        row[PERIOD] = between(dice, 1.5, 5.0)
        row[SHARE] = between(dice, 0.2, 0.7)
        row[STOREY] = between(dice, 0.3, 1.0)
    for _ in range(arrivals(dice, between(dice, 0.02, 0.35) * length)):
        at = s + between(dice, -0.5, 0.5) * length
        u = draw(dice)
        if u < 0.3:
            x, y, heading = place(scene, road, at, d - side * 0.3)
            block(scene, x, y, z + 1, heading, 0.35, 0.35, between(dice, 2.3, 3.5), 0.35, 0.0, -1)
        elif u < 0.5:
            x, y, heading = place(scene, road, at, d - side * 0.5)
            block(
                scene, x, y, z + 1, heading, between(dice, 0.8, 2.5), 1.0, between(dice, 0.2, 0.7),
                0.3, 0.0, -1,
            )  # fmt: skip
        elif u < 0.7:
            out = between(dice, 0.4, 1.2)
            x, y, heading = place(scene, road, at, d - side * out / 2)
            block(
                scene, x, y, z + 1, heading, between(dice, 1.0, 3.5), out, between(dice, 2.0, 6.0),
                0.35, 0.0, -1,
            )  # fmt: skip
        elif u < 0.85:
            x, y, heading = place(scene, road, at, d - side * 0.7)
            block(
                scene, x, y, z + 1 + between(dice, 1.9, 2.6), heading, between(dice, 1.5, 5.0), 1.4, 0.2,
                0.3, 0.0, -1,
            )  # fmt: skip
        else:
            x, y, heading = place(scene, road, at, d - side * 0.5)
            block(
                scene, x, y, z + 1, heading, between(dice, 0.5, 2.0), between(dice, 0.4, 0.9),
                between(dice, 0.5, 1.6), between(dice, 0.1, 0.5), 0.0, -1,
            )  # fmt: skip
