"""Cars, vans, trucks, people and cyclists as convex parts, with the box of their label."""

import math

from core.kernels.jit import compiled
from vision.pointcloud.synth.chance import between, draw, normal
from vision.pointcloud.synth.scene import (
    BLOCK,
    CABIN,
    CAR,
    CYCLIST,
    GLASS,
    GLASS_HIGH,
    GLASS_LOW,
    KIND,
    LOOSE,
    PEDESTRIAN,
    PERIOD,
    POWER,
    REGION,
    TRUCK,
    VAN,
    add_object,
    ball,
    cut,
    ground,
    put,
)

HATCH, SALOON, SUV, ESTATE, PANEL, PICKUP = range(6)


@compiled
def paint(dice):  # noqa: ANN001, ANN201
    """Albedo of a car's paint: a quarter of all cars hardly reflects."""
    u = draw(dice)
    if u < 0.14:
        return 0.03
    if u < 0.28:
        return 0.06
    if u < 0.48:
        return 0.15
    if u < 0.68:
        return 0.35
    if u < 0.88:
        return 0.6
    return 0.8


@compiled
def car_kind(dice):  # noqa: ANN001, ANN201
    """Which body: hatch .28, saloon .24, suv .20, estate .11, van .09, pickup .08."""
    u = draw(dice)
    if u < 0.28:
        return HATCH
    if u < 0.52:
        return SALOON
    if u < 0.72:
        return SUV
    if u < 0.83:
        return ESTATE
    if u < 0.92:
        return PANEL
    return PICKUP


@compiled
def car_size(scene, kind):  # noqa: ANN001, ANN201
    """Length, width, height of the metal, by kind and by the region of the scene."""
    dice = scene.dice
    if kind == HATCH:
        length, width, height = 3.75, 1.66, 1.48
    elif kind == SALOON:
        length, width, height = 4.35, 1.72, 1.44
    elif kind == SUV:
        length, width, height = 4.4, 1.82, 1.72
    elif kind == ESTATE:
        length, width, height = 4.4, 1.74, 1.5
    elif kind == PANEL:
        length, width, height = 4.9, 1.92, 2.05
    else:
        return between(dice, 4.9, 5.7), between(dice, 1.82, 2.1), between(dice, 1.72, 2.15)
    u = min(1.3, max(-0.3, normal(dice, scene.land[REGION], 0.15)))
    length *= (0.95 + 0.13 * u) * (1 + normal(dice, 0.0, 0.06))
    width *= (0.97 + 0.18 * u) * (1 + normal(dice, 0.0, 0.03))
    height *= (1 + 0.06 * u) * (1 + normal(dice, 0.0, 0.04))
    return length, width, height


@compiled
def wheel(scene, x, y, z, heading, at, side, radius, half, owner):  # noqa: ANN001, ANN201
    """An eight-sided wheel whose axle lies at (at, side) of the vehicle's frame."""
    k = put(
        scene, BLOCK, x, y, z, heading,
        at - radius, at + radius, side - half, side + half, 0.0, 2 * radius, 0.05, 0.0, owner,
    )  # fmt: skip
    reach = radius * math.sqrt(0.5)
    for right in (-1.0, 1.0):
        for up in (-1.0, 1.0):
            cut(scene, k, right, 0.0, up, at + right * reach, 0.0, radius + up * reach)


@compiled
def add_car(scene, x, y, heading, kind, length, width, height):  # noqa: ANN001, ANN201
    """A car with body, cabin of glass and pillars, wheels, seats, perhaps mirrors; gives its number."""
    dice = scene.dice
    z = ground(scene, x, y)
    loose = scene.land[LOOSE]
    owner = add_object(
        scene, x, y, z, length + loose, width + 0.8 * loose, height + 0.5 * loose, heading,
        VAN if kind == PANEL else CAR,
    )  # fmt: skip
    albedo = paint(dice)
    low = between(dice, 0.18, 0.30)
    belt = between(dice, 0.56, 0.64) * height
    front, half = length / 2, width / 2
    hood = (0.10 if kind == PANEL else between(dice, 0.2, 0.28)) * length
    body = put(scene, BLOCK, x, y, z, heading, -front, front, -half, half, low, belt, albedo, 0.0, owner)
    scene.body[body, POWER] = 1.5
    cut(scene, body, 1.0, 0.0, between(dice, 0.1, 0.4), front, 0.0, low + 0.5 * (belt - low))
    drop = belt * (1 - between(dice, 0.82, 0.97)) / hood
    cut(scene, body, drop, 0.0, 1.0, front - hood, 0.0, belt)
    cut(scene, body, -1.0, 0.0, between(dice, 0.0, 0.25), -front, 0.0, low + 0.6 * (belt - low))
    corner = between(dice, 0.1, 0.3)
    for end in (-1.0, 1.0):
        for side in (-1.0, 1.0):
            cut(scene, body, end, side, 0.0, end * (front - corner), side * half, 0.0)
    if kind == SALOON:
        back, rear = -front + between(dice, 0.12, 0.22) * length, between(dice, 0.5, 0.8)
    elif kind == PICKUP:
        back, rear = -between(dice, 0.05, 0.15) * length, 0.05
    elif kind == PANEL:
        back, rear = -front + 0.02, 0.04
    else:
        back, rear = -front + between(dice, 0.02, 0.2), between(dice, 0.15, 0.6)
    shield = front - hood + between(dice, -0.05, 0.15)
    lean = between(dice, 0.12, 0.30)
    cabin = put(
        scene, BLOCK, x, y, z, heading,
        back, shield, -half * 0.98, half * 0.98, belt, height, albedo, 0.0, owner,
    )  # fmt: skip
    cut(scene, cabin, 1.0, 0.0, between(dice, 0.5, 1.0), shield, 0.0, belt)
    cut(scene, cabin, -1.0, 0.0, rear, back, 0.0, belt)
    for side in (-1.0, 1.0):
        cut(scene, cabin, 0.0, side, lean, 0.0, side * half * 0.98, belt)
        cut(scene, cabin, 0.0, side, 1.0, 0.0, side * (half * 0.98 - lean * (height - belt)), height - 0.08)
    scene.code[cabin, KIND] = CABIN
    row = scene.body[cabin]
    row[POWER] = 1.5
    row[GLASS] = between(dice, 0.35, 0.9)
    row[GLASS_LOW], row[GLASS_HIGH] = belt + 0.06, height - 0.10
    row[PERIOD] = 0.44 * length
    radius = between(dice, 0.29, 0.36)
    for end in (-1.0, 1.0):
        for side in (-1.0, 1.0):
            wheel(scene, x, y, z, heading, end * 0.3 * length, side * (half - 0.09), radius, 0.11, owner)
    if draw(dice) < 0.6:
        for side in (-1.0, 1.0):
            inner, outer = side * (half + 0.02), side * (half + 0.2)
            put(
                scene, BLOCK, x, y, z, heading,
                shield - 0.25, shield - 0.1, min(inner, outer), max(inner, outer), belt, belt + 0.16,
                albedo, 0.0, owner,
            )  # fmt: skip
    for at in (0.04, -0.16):
        seat = at * length
        put(
            scene, BLOCK, x, y, z, heading,
            seat - 0.12, seat + 0.12, -0.36 * width, 0.36 * width, belt - 0.1, belt + 0.3, 0.1, 0.0, owner,
        )  # fmt: skip
    return owner


@compiled
def add_truck(scene, x, y, heading):  # noqa: ANN001, ANN201
    """A lorry or bus of 6 to 12 m."""
    dice = scene.dice
    length, width, height = between(dice, 6.0, 12.0), between(dice, 2.3, 2.6), between(dice, 2.6, 3.8)
    z = ground(scene, x, y)
    owner = add_object(scene, x, y, z, length, width, height, heading, TRUCK)
    albedo, front, half = paint(dice), length / 2, width / 2
    low = between(dice, 0.4, 1.0)
    gap = front - between(dice, 1.6, 2.4)
    put(scene, BLOCK, x, y, z, heading, -front, gap - 0.3, -half, half, low, height, albedo, 0.0, owner)
    cab = put(
        scene, BLOCK, x, y, z, heading,
        gap, front, -half * 0.95, half * 0.95, 0.45, between(dice, 2.3, 3.0), albedo, 0.0, owner,
    )  # fmt: skip
    cut(scene, cab, 1.0, 0.0, between(dice, 0.0, 0.3), front, 0.0, 1.2)
    for at in (-0.38, -0.25, 0.36):
        for side in (-1.0, 1.0):
            wheel(scene, x, y, z, heading, at * length, side * (half - 0.15), 0.48, 0.14, owner)
    return owner


@compiled
def person(scene, x, y, z, heading, height, stride, owner):  # noqa: ANN001, ANN201
    """Legs, torso, arms and head as ellipsoids."""
    dice = scene.dice
    size = height / 1.72
    albedo = between(dice, 0.1, 0.5)
    c, s = math.cos(heading), math.sin(heading)
    for side in (-1.0, 1.0):
        u, v = side * stride / 2, side * 0.09 * size
        ball(
            scene, x + c * u - s * v, y + s * u + c * v, z + 0.42 * size, heading,
            (0.07 + 0.2 * stride) * size, 0.08 * size, 0.43 * size, albedo, 0.0, owner,
        )  # fmt: skip
        u, v = -side * stride / 3, side * 0.25 * size
        ball(
            scene, x + c * u - s * v, y + s * u + c * v, z + 1.1 * size, heading,
            0.07 * size, 0.06 * size, 0.3 * size, albedo, 0.0, owner,
        )  # fmt: skip
    ball(scene, x, y, z + 1.13 * size, heading, 0.14 * size, 0.21 * size, 0.34 * size, albedo, 0.0, owner)
    ball(scene, x, y, z + 1.58 * size, heading, 0.1 * size, 0.09 * size, 0.13 * size, 0.3, 0.0, owner)


@compiled
def add_pedestrian(scene, x, y, heading):  # noqa: ANN001, ANN201
    """A standing or walking person, one in eight a child."""
    dice = scene.dice
    height = max(1.45, normal(dice, 1.72, 0.1))
    if draw(dice) < 0.12:
        height = between(dice, 0.95, 1.4)
    stride = between(dice, 0.0, 0.3)
    z = ground(scene, x, y)
    size = height / 1.72
    owner = add_object(scene, x, y, z, (0.55 + 1.2 * stride) * size, 0.65 * size, height, heading, PEDESTRIAN)
    person(scene, x, y, z, heading, height, stride, owner)
    return owner


@compiled
def bicycle(scene, x, y, z, heading, owner):  # noqa: ANN001, ANN201
    """Two discs of spokes, a frame and a bar."""
    for end in (-1.0, 1.0):
        at = 0.53 * end
        k = put(
            scene, BLOCK, x, y, z, heading, at - 0.34, at + 0.34, -0.03, 0.03, 0.0, 0.68, 0.2, 12.0, owner
        )
        for right in (-1.0, 1.0):
            for up in (-1.0, 1.0):
                cut(scene, k, right, 0.0, up, at + right * 0.24, 0.0, 0.34 + up * 0.24)
    put(scene, BLOCK, x, y, z, heading, -0.35, 0.4, -0.03, 0.03, 0.4, 0.85, 0.2, 6.0, owner)
    put(scene, BLOCK, x, y, z, heading, 0.36, 0.42, -0.28, 0.28, 0.95, 1.0, 0.2, 0.0, owner)


@compiled
def add_cyclist(scene, x, y, heading):  # noqa: ANN001, ANN201
    """A bicycle with its rider."""
    dice = scene.dice
    z = ground(scene, x, y)
    size = max(0.9, normal(dice, 1.0, 0.04))
    owner = add_object(scene, x, y, z, 1.75 * size, 0.65 * size, 1.72 * size, heading, CYCLIST)
    bicycle(scene, x, y, z, heading, owner)
    albedo = between(dice, 0.1, 0.5)
    c, s = math.cos(heading), math.sin(heading)
    for side in (-1.0, 1.0):
        u, v = 0.0, 0.12 * side
        ball(
            scene, x + c * u - s * v, y + s * u + c * v, z + 0.65 * size, heading,
            0.14, 0.07, 0.36 * size, albedo, 0.0, owner,
        )  # fmt: skip
        u, v = 0.22, 0.24 * side
        ball(
            scene, x + c * u - s * v, y + s * u + c * v, z + 1.15 * size, heading,
            0.22, 0.05, 0.14, albedo, 0.0, owner,
        )  # fmt: skip
    ball(scene, x, y, z + 1.2 * size, heading, 0.2, 0.2, 0.32 * size, albedo, 0.0, owner)
    u = 0.14
    ball(scene, x + c * u, y + s * u, z + 1.58 * size, heading, 0.11, 0.09, 0.13 * size, 0.3, 0.0, owner)
    return owner
