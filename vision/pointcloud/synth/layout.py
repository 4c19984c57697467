"""Where things stand: roads and lanes, parked cars and traffic, gardens, houses and what lies about."""

import math

from core.kernels.jit import compiled
from vision.pointcloud.synth import clutter
from vision.pointcloud.synth.chance import arrivals, between, draw, normal, waiting
from vision.pointcloud.synth.movers import (
    add_car,
    add_cyclist,
    add_pedestrian,
    add_truck,
    car_kind,
    car_size,
)
from vision.pointcloud.synth.scene import (
    BANKS,
    CELL,
    GRID,
    KERB,
    LOOSE,
    OBJECTS,
    OLANE,
    REGION,
    ROADS,
    ROUGH,
    TALL_GRASS,
    TURN_COS,
    TURN_SIN,
    WAVES,
    claim,
    ground,
    half_width,
    outside,
    place,
)

RESIDENTIAL, CITY, CAR_PARK, RURAL, MOTORWAY = range(5)
REACH = 80.0
"""How far along a road things are laid out, in metres."""


@compiled
def lay_land(scene, kind):  # noqa: ANN001, ANN201
    """Waves, kerb, banks, grass, roads; marks the roads on the map."""
    dice, land = scene.dice, scene.land
    for wave in range(2 + int(3 * draw(dice))):
        length, turn = between(dice, 15.0, 80.0), between(dice, 0.0, 6.28)
        k = 2 * math.pi / length
        at = WAVES + 4 * wave
        land[at] = between(dice, 0.0, 0.014) / k + 1e-9
        land[at + 1], land[at + 2] = k * math.cos(turn), k * math.sin(turn)
        land[at + 3] = between(dice, 0.0, 6.28)
    land[KERB], land[ROUGH] = between(dice, 0.0, 0.18), between(dice, 0.005, 0.03)
    for side in (0, 1):
        at = BANKS + 3 * side
        if draw(dice) < 0.5:
            slope = between(dice, 0.04, 0.2) if draw(dice) < 0.5 else between(dice, 0.2, 0.6)
            land[at] = waiting(dice, 5.0)
            land[at + 1] = -slope if draw(dice) < 0.25 else slope
            land[at + 2] = between(dice, 0.2, 2.5)
    if draw(dice) < 0.5:
        land[TALL_GRASS] = between(dice, 0.02, 0.2)
    land[REGION] = draw(dice)
    if draw(dice) < 0.4:
        land[LOOSE] = between(dice, 0.0, 0.4)
    half = between(dice, 7.0, 13.0) if kind == MOTORWAY else between(dice, 2.6, 7.5)
    hand = 1.0 if draw(dice) < 0.75 else -1.0  # most of the sensor's lanes lie on the right
    land[ROADS + 1] = hand * half * between(dice, 0.3, 0.6)
    land[ROADS + 2] = normal(dice, 0.0, 0.03)
    if draw(dice) < 0.4:
        land[ROADS + 3] = min(0.01, max(-0.01, normal(dice, 0.0, 0.004)))
    land[ROADS + 4] = half
    if kind != MOTORWAY and draw(dice) < 0.45:
        at = ROADS + 8
        land[at] = between(dice, -40.0, 45.0)
        land[at + 2] = math.pi / 2 + normal(dice, 0.0, 0.15)
        land[at + 4] = between(dice, 2.6, 7.0)
    for road in range(2):
        at = ROADS + 8 * road
        land[at + TURN_COS], land[at + TURN_SIN] = math.cos(land[at + 2]), math.sin(land[at + 2])
    for i in range(GRID):
        for j in range(GRID):
            if outside(scene, (i - GRID / 2) * CELL, (j - GRID / 2) * CELL) < 0.3:
                scene.taken[i, j] = 1
    claim(scene, 0.0, 0.0, 6.0, 2.4, 0.0, 3)  # the vehicle that carries the sensor


@compiled
def level_enough(scene, x, y, length, width, heading):  # noqa: ANN001, ANN201
    """Whether a vehicle can stand here: its corners differ by at most .6 m."""
    low, high = 1e9, -1e9
    c, s = math.cos(heading), math.sin(heading)
    for end in (-0.5, 0.5):
        for side in (-0.5, 0.5):
            u, v = end * length, side * width
            z = ground(scene, x + c * u - s * v, y + s * u + c * v)
            low, high = min(low, z), max(high, z)
    return high - low < 0.6


@compiled
def park(scene, x, y, heading, keep):  # noqa: ANN001, ANN201
    """A car at a place, unless it is left out, taken or too steep; gives its length."""
    dice = scene.dice
    kind = car_kind(dice)
    length, width, height = car_size(scene, kind)
    if draw(dice) >= keep or not level_enough(scene, x, y, length, width, heading):
        return length
    if claim(scene, x, y, length + 0.3, width + 0.2, heading, 2):
        add_car(scene, x, y, heading, kind, length, width, height)
    return length


@compiled
def traffic(scene, road, kind, keep):  # noqa: ANN001, ANN201
    """Moving and queueing vehicles in every lane, cyclists at its edge."""
    dice = scene.dice
    half = half_width(scene, road)
    lanes = 4 if half > 5.5 and draw(dice) < 0.6 else 2
    one_way = draw(dice) < 0.12
    for lane in range(lanes):
        d = half * ((lane + 0.5) / lanes * 2 - 1)
        turn = 0.0 if d < 0 or one_way else math.pi
        queue = draw(dice) < 0.25
        gap = between(dice, 0.5, 4.0) if queue else between(dice, 7.0, 45.0)
        s = -REACH + waiting(dice, gap)
        while s < REACH:
            x, y, heading = place(scene, road, s, d + normal(dice, 0.0, 0.15))
            heading += turn + normal(dice, 0.0, 0.03)
            u, before = draw(dice), scene.used[1]
            if u < 0.06:
                if draw(dice) < keep and claim(scene, x, y, 12.5, 2.8, heading, 2):
                    add_truck(scene, x, y, heading)
                    s += 7
            elif u < 0.12 and kind != MOTORWAY:
                if claim(scene, x, y, 2.0, 0.9, heading, 2):
                    add_cyclist(scene, x, y, heading)
            else:
                park(scene, x, y, heading, keep)
            for added in range(before, scene.used[1]):
                scene.objects[min(added, OBJECTS - 1), OLANE] = 1 + 2 * road + (turn > 0)
            s += 6.0 + waiting(dice, gap)


@compiled
def parked(scene, road, side, keep):  # noqa: ANN001, ANN201
    """A row of parked cars on one side; gives how deep it is behind the kerb."""
    dice = scene.dice
    half = half_width(scene, road)
    if draw(dice) > 0.72:
        return 0.0
    u, fill = draw(dice), between(dice, 0.25, 0.98)
    s = -REACH
    if u < 0.68:
        inside = half > 4.5 and draw(dice) < 0.5
        d = side * (half - 1.1 if inside else half + 1.15)
        step = between(dice, 4.7, 6.6)
        while s < REACH:
            if draw(dice) < fill:
                x, y, heading = place(scene, road, s, d + normal(dice, 0.0, 0.12))
                turn = 0.0 if side < 0 else math.pi
                if draw(dice) < 0.1:
                    turn += math.pi
                length = park(scene, x, y, heading + turn + normal(dice, 0.0, 0.02), keep)
                s += max(step, length + between(dice, 0.4, 1.2))
            else:
                s += step
        return 0.0 if inside else 2.3
    lean = math.pi / 2 if u < 0.9 else between(dice, 0.7, 1.2)
    step = between(dice, 2.35, 3.0) / math.sin(lean)
    while s < REACH:
        if draw(dice) < fill:
            x, y, heading = place(scene, road, s, side * (half + 2.6) + normal(dice, 0.0, 0.2))
            turn = side * lean + (math.pi if draw(dice) < 0.4 else 0.0)
            park(scene, x, y, heading + turn + normal(dice, 0.0, 0.03), keep)
        s += step
    return 5.2


@compiled
def car_park(scene, side, keep):  # noqa: ANN001, ANN201
    """Seven double rows beside the main road."""
    dice = scene.dice
    half, fill = half_width(scene, 0), between(dice, 0.2, 0.95)
    along, step = between(dice, 15.0, 50.0), between(dice, 2.4, 2.9)
    lane = between(dice, 5.5, 7.0)
    for row in range(7):
        for back in (0, 1):
            d = side * (half + 5.0 + row * (2 * 4.9 + lane) + back * 4.9)
            s = -along
            while s < along:
                if draw(dice) < fill:
                    x, y, heading = place(scene, 0, s, d + normal(dice, 0.0, 0.2))
                    turn = math.pi / 2 + (math.pi if draw(dice) < 0.5 else 0.0)
                    park(scene, x, y, heading + turn + normal(dice, 0.0, 0.03), keep)
                s += step


@compiled
def people(scene, road, side, depth, many):  # noqa: ANN001, ANN201
    """Walkers alone and in groups, a few riders on the pavement."""
    dice = scene.dice
    half = half_width(scene, road)
    for _ in range(arrivals(dice, many)):
        s, d = between(dice, -45.0, 45.0), side * (half + depth + between(dice, 0.3, 2.8))
        if draw(dice) < 0.1:
            d = between(dice, -half, half)
        for k in range(1 + (int(3 * draw(dice)) if draw(dice) < 0.3 else 0)):
            x, y, heading = place(scene, road, s + 0.7 * k, d + normal(dice, 0.0, 0.2))
            if claim(scene, x, y, 0.5, 0.5, 0.0, 2):
                turn = 0.0 if draw(dice) < 0.5 else math.pi
                if draw(dice) < 0.2:
                    add_cyclist(scene, x, y, heading + turn + normal(dice, 0.0, 0.1))
                else:
                    add_pedestrian(scene, x, y, heading + turn + normal(dice, 0.0, 0.5))


@compiled
def verge(scene, road, side, depth, kind):  # noqa: ANN001, ANN201
    """Trees, poles, heaps and small things between the kerb and the houses."""
    dice = scene.dice
    half = half_width(scene, road)
    back = between(dice, 2.0, 14.0)
    if draw(dice) < 0.65:
        mean, line = between(dice, 6.0, 25.0), half + depth + between(dice, 0.6, 3.0)
        s = -REACH + waiting(dice, mean)
        while s < REACH:
            x, y, _ = place(scene, road, s, side * line)
            if outside(scene, x, y) > 0.3 and claim(scene, x, y, 0.6, 0.6, 0.0, 1):
                clutter.tree(scene, x, y)
            s += 3.0 + waiting(dice, mean)
    mean = between(dice, 12.0, 40.0)
    s = -REACH + waiting(dice, mean)
    while s < REACH:
        x, y, _ = place(scene, road, s, side * (half + depth + between(dice, 0.4, 1.2)))
        if outside(scene, x, y) > 0.2 and claim(scene, x, y, 0.4, 0.4, 0.0, 1):
            clutter.pole(scene, x, y)
        s += 4.0 + waiting(dice, mean)
    for _ in range(arrivals(dice, between(dice, 1.0, 9.0))):
        d = side * (half + depth + 2.0 + between(dice, 0.0, back))
        x, y, heading = place(scene, road, between(dice, -45.0, 45.0), d)
        if claim(scene, x, y, 3.5, 1.6, heading, 1):
            clutter.heap(scene, x, y, heading + normal(dice, 0.0, 0.5))
    for _ in range(arrivals(dice, between(dice, 1.0, 9.0))):
        d = side * (half + depth + between(dice, 0.4, 2.2))
        x, y, heading = place(scene, road, between(dice, -45.0, 45.0), d)
        if claim(scene, x, y, 1.0, 0.8, heading, 1):
            clutter.small_thing(scene, x, y, heading)
    if kind == RURAL or draw(dice) < 0.2:
        for _ in range(arrivals(dice, 12.0)):
            d = side * (half + depth + between(dice, 2.0, 30.0))
            x, y, _ = place(scene, road, between(dice, -60.0, 60.0), d)
            if claim(scene, x, y, 1.0, 1.0, 0.0, 1):
                if draw(dice) < 0.5:
                    clutter.tree(scene, x, y)
                else:
                    clutter.bush(scene, x, y, between(dice, 0.5, 2.0), between(dice, 0.5, 3.0))


@compiled
def border(scene, road, side, depth, kind):  # noqa: ANN001, ANN201
    """Hedges, fences and walls along the pavement, houses behind them, cars in drives."""
    dice = scene.dice
    half = half_width(scene, road)
    line = half + depth + between(dice, 1.8, 3.5)
    front = line + (0.4 if kind == CITY else between(dice, 1.5, 11.0))
    built = 0.97 if kind == CITY else 0.8 if kind == RESIDENTIAL else 0.3
    drives = between(dice, 0.0, 0.7) if kind == RESIDENTIAL else 0.1
    s = -REACH
    while s < REACH:
        length = between(dice, 5.0, 25.0)
        gap = 0.0 if kind == CITY and draw(dice) < 0.8 else between(dice, 1.0, 9.0)
        middle = s + length / 2
        far = side * (front + 4.0 + normal(dice, 0.0, 0.3))
        x, y, heading = place(scene, road, middle, far)
        if draw(dice) < built and claim(scene, x, y, length, 6.0, heading, 1):
            height = between(dice, 3.0, 12.0)
            start = side * (front + normal(dice, 0.0, 0.3))
            clutter.building(scene, road, middle, start, length, between(dice, 6.0, 12.0), height)
        if kind != CITY or draw(dice) < 0.15:
            x, y, _ = place(scene, road, middle, side * line)
            if outside(scene, x, y) > 1.5:
                u, d = draw(dice), side * line
                if u < 0.3:
                    clutter.green_row(scene, road, s, s + length, d)
                elif u < 0.5:
                    clutter.fence(scene, road, s, s + length, d)
                elif u < 0.75:
                    clutter.wall(scene, road, s, s + length, d)
                if u < 0.75:
                    x, y, heading = place(scene, road, middle, d)
                    claim(scene, x, y, length, 0.5, heading, 1)
        if draw(dice) < drives:
            x, y, heading = place(scene, road, s + length + gap / 2, side * (line + between(dice, 1.0, 5.0)))
            turn = math.pi / 2 + (math.pi if draw(dice) < 0.5 else 0.0)
            park(scene, x, y, heading + turn + normal(dice, 0.0, 0.04), 0.9)
        s += length + gap


@compiled
def lay_out(scene):  # noqa: ANN001, ANN201
    """Fill an empty scene."""
    dice = scene.dice
    u = draw(dice)
    kind = MOTORWAY
    if u < 0.45:
        kind = RESIDENTIAL
    elif u < 0.65:
        kind = CITY
    elif u < 0.78:
        kind = CAR_PARK
    elif u < 0.91:
        kind = RURAL
    lay_land(scene, kind)
    keep = 1.0
    if draw(dice) < 0.45:
        keep = 1.0 - between(dice, 0.4, 0.97)
    roads = 2 if half_width(scene, 1) > 0 else 1
    for road in range(roads):
        traffic(scene, road, kind, keep)
    many = between(dice, 0.5, 8.0) if kind in (RESIDENTIAL, CITY) else between(dice, 0.2, 3.0)
    for road in range(roads):
        for side in (-1.0, 1.0):
            depth = 0.0
            if kind == CAR_PARK and road == 0 and (side < 0 or draw(dice) < 0.5):
                car_park(scene, side, keep)
                depth = between(dice, 20.0, 60.0)
            elif kind not in (RURAL, MOTORWAY) or draw(dice) < 0.15:
                depth = parked(scene, road, side, keep)
            people(scene, road, side, depth, many)
            border(scene, road, side, depth, kind)
            verge(scene, road, side, depth, kind)
