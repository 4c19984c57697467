"""Rays against a scene, part by part: each part is asked only by the rings and columns that may meet it."""

import math

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.synth.chance import between, draw, normal, waiting
from vision.pointcloud.synth.scene import (
    ALBEDO,
    BLOCK,
    CABIN,
    COS,
    CUT,
    CX,
    CY,
    CZ,
    DENSITY,
    FACADE,
    GLASS,
    GLASS_HIGH,
    GLASS_LOW,
    KIND,
    OWNER,
    PERIOD,
    POWER,
    ROUGH,
    SHAPE,
    SHARE,
    SIN,
    STOREY,
    TALL_GRASS,
    X0,
    X1,
    Y0,
    Y1,
    Z0,
    Z1,
    ground,
    outside,
)

RADII = 190
NEAREST, FARTHEST = 1.8, 117.0
GROUND, NOTHING = -1, -2
STRIDE = 4
"""Columns between two height profiles of the ground; those between are blended."""
SWEEP_S = 0.1


@compiled
def cast_ground(scene, up, columns, height, shift, phase, depth, owner, albedo, incidence):  # noqa: ANN001, ANN201
    """Where each ray meets the ground: a profile of heights per direction, climbed ring by ring.

    `up` are tangents of the elevations in rising order, `shift` the way of the sensor along x per column.
    """
    dice, land = scene.dice, scene.land
    rings = len(up)
    growth = math.log(FARTHEST / NEAREST) / (RADII - 1)
    radii = np.empty(RADII)
    for k in range(RADII):
        radii[k] = NEAREST * math.exp(growth * k)
    profiles = (columns + STRIDE - 1) // STRIDE
    table = np.empty((profiles + 1, RADII))
    off = np.empty((profiles + 1, RADII))
    for p in range(profiles):
        angle = 2 * math.pi * (p * STRIDE + phase) / columns
        c, s = math.cos(angle), math.sin(angle)
        for k in range(RADII):
            x, y = radii[k] * c, radii[k] * s
            table[p, k] = ground(scene, x, y)
            off[p, k] = outside(scene, x, y)
    table[profiles], off[profiles] = table[0], off[0]
    sensor_z = ground(scene, 0.0, 0.0) + height
    line = np.empty(RADII)
    for j in range(columns):
        p = j // STRIDE
        blend = (j - p * STRIDE) / STRIDE
        for k in range(RADII):
            line[k] = (1 - blend) * table[p, k] + blend * table[p + 1, k]
        k = 0
        for i in range(rings):
            while k < RADII - 1 and sensor_z + up[i] * radii[k + 1] > line[k + 1]:
                k += 1
            if k == RADII - 1:
                break
            a = sensor_z + up[i] * radii[k] - line[k]
            b = sensor_z + up[i] * radii[k + 1] - line[k + 1]
            if a < 0:
                continue
            share = a / (a - b)
            reach = radii[k] + share * (radii[k + 1] - radii[k])
            slope = (line[k + 1] - line[k]) / (radii[k + 1] - radii[k])
            steep = max(0.004, slope - up[i])
            lift = 2.4 * land[ROUGH] * (draw(dice) + draw(dice) - 1.0)
            if land[TALL_GRASS] > 0 and off[p, k] > 0.5:
                patch = math.sin(0.7 * radii[k] + 13.0 * blend + p * 0.09) > -0.3
                if patch:
                    lift += waiting(dice, land[TALL_GRASS])
            reach -= min(max(lift / steep, -0.5), 0.3 * reach)
            depth[i, j] = reach * math.sqrt(1 + up[i] * up[i])
            owner[i, j] = GROUND
            albedo[i, j] = 0.25
            incidence[i, j] = math.sqrt(math.sqrt(min(1.0, steep)))
    return sensor_z


@compiled
def cast_parts(scene, up, columns, origin_z, shift, phase, depth, owner, albedo, incidence, mark, met):  # noqa: ANN001, ANN201
    """Bring the nearest hit of every part into the buffers, and count the rays that meet each object."""
    body, cuts, code, dice = scene.body, scene.cuts, scene.code, scene.dice
    rings = len(up)
    per_turn = columns / (2 * math.pi)
    rise, flat = np.empty(rings), np.empty(rings)
    for i in range(rings):
        flat[i] = 1 / math.sqrt(1 + up[i] * up[i])
        rise[i] = up[i] * flat[i]
    cosines, sines = np.empty(columns), np.empty(columns)
    for j in range(columns):
        angle = (j + phase) / per_turn
        cosines[j], sines[j] = math.cos(angle), math.sin(angle)
    most = 0.0
    for j in range(columns):
        most = max(most, abs(shift[j]))
    for part in range(scene.used[0]):
        row = body[part]
        c, s = row[COS], row[SIN]
        x0, x1, y0, y1, z0, z1 = row[X0], row[X1], row[Y0], row[Y1], row[Z0], row[Z1]
        # the sensor in the frame of the part
        ox, oy = -c * row[CX] - s * row[CY], s * row[CX] - c * row[CY]
        oz = origin_z - row[CZ]
        dx, dy = max(x0 - ox, 0.0, ox - x1), max(y0 - oy, 0.0, oy - y1)
        near = math.sqrt(dx * dx + dy * dy)
        if near < 0.8 or near > 110.0:
            continue
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        wx, wy = row[CX] + c * middle_x - s * middle_y, row[CY] + s * middle_x + c * middle_y
        centre = math.atan2(wy, wx)
        left, right, far = 0.0, 0.0, 0.0
        for corner in range(4):
            u, v = x0 if corner % 2 else x1, y0 if corner < 2 else y1
            wx, wy = row[CX] + c * u - s * v, row[CY] + s * u + c * v
            angle = math.atan2(wy, wx) - centre
            angle -= 2 * math.pi * math.floor(angle / (2 * math.pi) + 0.5)
            left, right = min(left, angle), max(right, angle)
            far = max(far, math.sqrt(wx * wx + wy * wy))
        spare = most / near
        first = math.ceil((centre + left - spare) * per_turn - phase)
        last = math.floor((centre + right + spare) * per_turn - phase)
        low, high = z0 - oz, z1 - oz
        bottom = low / (near - most if low < 0 else far + most)
        top = high / (near - most if high > 0 else far + most)
        from_ring, to_ring = np.searchsorted(up, bottom), np.searchsorted(up, top, side="right")
        if from_ring >= to_ring:
            continue
        shape, planes, number, kind = code[part, SHAPE], code[part, CUT], code[part, OWNER], code[part, KIND]
        density = row[DENSITY]
        for column in range(first, last + 1):
            j = column % columns
            hx = c * cosines[j] + s * sines[j]
            hy = c * sines[j] - s * cosines[j]
            px, py = ox + c * shift[j], oy - s * shift[j]
            for i in range(from_ring, to_ring):
                vx, vy, vz = hx * flat[i], hy * flat[i], rise[i]
                enter, leave = -1e30, 1e30
                nx, ny, nz = 0.0, 0.0, 0.0
                side = 0
                if shape == BLOCK:
                    # the three slabs, then the planes
                    inverse = 1.0 / vx if vx != 0.0 else 1e30
                    a, b = (x0 - px) * inverse, (x1 - px) * inverse
                    if a > b:
                        a, b = b, a
                    enter, leave, side = a, b, 0
                    inverse = 1.0 / vy if vy != 0.0 else 1e30
                    a, b = (y0 - py) * inverse, (y1 - py) * inverse
                    if a > b:
                        a, b = b, a
                    if a > enter:
                        enter, side = a, 1
                    leave = min(leave, b)
                    inverse = 1.0 / vz if vz != 0.0 else 1e30
                    a, b = (z0 - oz) * inverse, (z1 - oz) * inverse
                    if a > b:
                        a, b = b, a
                    if a > enter:
                        enter, side = a, 2
                    leave = min(leave, b)
                    if enter > leave or leave < 0.3:
                        continue
                    if side == 0:
                        nx = 1.0
                    elif side == 1:
                        ny = 1.0
                    else:
                        nz = 1.0
                    for k in range(planes):
                        plane = cuts[part, k]
                        speed = plane[0] * vx + plane[1] * vy + plane[2] * vz
                        gap = plane[3] - (plane[0] * px + plane[1] * py + plane[2] * oz)
                        if speed < 0:
                            t = gap / speed
                            if t > enter:
                                enter, side = t, 3
                                nx, ny, nz = plane[0], plane[1], plane[2]
                        elif speed > 0:
                            leave = min(leave, gap / speed)
                        elif gap < 0:
                            leave = -1.0
                        if enter > leave:
                            break
                    if enter > leave:
                        continue
                else:
                    a, b, d = (x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2
                    ux, uy, uz = px / a, py / b, oz / d
                    tx, ty, tz = vx / a, vy / b, vz / d
                    aa = tx * tx + ty * ty + tz * tz
                    ab = ux * tx + uy * ty + uz * tz
                    disc = ab * ab - aa * (ux * ux + uy * uy + uz * uz - 1)
                    if disc <= 0:
                        continue
                    root = math.sqrt(disc)
                    enter, leave = (-ab - root) / aa, (-ab + root) / aa
                    nx, ny = (ux + enter * tx) / a, (uy + enter * ty) / b
                    nz = (uz + enter * tz) / d
                    size = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
                    nx, ny, nz = nx / size, ny / size, nz / size
                if enter < 0.3:
                    continue
                if number >= 0 and mark[i, j] != number:
                    mark[i, j] = number
                    met[number] += 1
                if density > 0:
                    enter += waiting(dice, 1.0 / density)
                    if enter > leave or enter >= depth[i, j]:
                        continue
                    depth[i, j], owner[i, j] = enter, number if number >= 0 else -3
                    albedo[i, j], incidence[i, j] = row[ALBEDO], 1.0
                    continue
                if enter >= depth[i, j]:
                    continue
                if kind == CABIN:
                    hz = oz + enter * vz
                    if row[GLASS_LOW] < hz < row[GLASS_HIGH]:
                        pillar = False
                        if abs(ny) > 0.7:
                            along = (px + enter * vx - x0) / row[PERIOD]
                            pillar = along - math.floor(along) < 0.1
                        if not pillar and draw(dice) < row[GLASS]:
                            continue
                elif kind == FACADE and side == 1:
                    hz = oz + enter * vz - z0 - 1.0
                    hz -= 3.0 * math.floor(hz / 3.0)
                    along = (px + enter * vx) / row[PERIOD]
                    along -= math.floor(along)
                    if row[STOREY] < hz < 2.7 and along < row[SHARE]:
                        u = draw(dice)
                        if u < 0.45:
                            enter += waiting(dice, 1.3)
                            if enter >= depth[i, j]:
                                continue
                        elif u < 0.8:
                            depth[i, j], owner[i, j] = enter, NOTHING
                            continue
                depth[i, j], owner[i, j] = enter, number if number >= 0 else -3
                albedo[i, j] = row[ALBEDO]
                facing = min(1.0, abs(nx * vx + ny * vy + nz * vz))
                if row[POWER] == 1.5:
                    incidence[i, j] = facing * math.sqrt(facing)
                    if facing > 0.97:
                        incidence[i, j] += 0.03 / max(0.03, row[ALBEDO])
                else:
                    incidence[i, j] = math.sqrt(facing)


@compiled
def collect(scene, up, order, columns, shift, phase, reach, depth, owner, albedo, incidence, ended):  # noqa: ANN001, ANN201
    """Rays that come back, as rows x, y, z, reflectance, ring, column, owner; z is relative to the sensor.

    Rings are written in the order of the file, each a turn from its first column on.
    """
    dice = scene.dice
    rings = len(up)
    rows = np.empty((rings * columns, 4), np.float32)
    ring, at, whose = (
        np.empty(rings * columns, np.uint16),
        np.empty(rings * columns, np.uint16),
        np.empty(rings * columns, np.int16),
    )
    lost = between(dice, 0.0, 0.04)
    count = 0
    per_turn = columns / (2 * math.pi)
    for place in range(rings):
        i = order[place]
        flat = 1 / math.sqrt(1 + up[i] * up[i])
        for j in range(columns):
            t = depth[i, j]
            if owner[i, j] == NOTHING or t > 120.0 or t < 1.5:
                continue
            if owner[i, j] >= 0:
                ended[owner[i, j]] += 1
            back = albedo[i, j] * incidence[i, j]
            ratio = reach / t
            signal = back / 0.1 * ratio * ratio
            if signal < 40.0 and signal * math.exp(normal(dice, 0.0, 0.5)) < 1.0:
                continue
            if draw(dice) < lost:
                continue
            t += normal(dice, 0.0, 0.015 + 0.0005 * t)
            if draw(dice) < 0.004:
                t += between(dice, -0.6, 0.6)
            angle = (j + phase) / per_turn
            rows[count, 0] = shift[j] + t * flat * math.cos(angle)
            rows[count, 1] = t * flat * math.sin(angle)
            rows[count, 2] = t * flat * up[i]
            bright = min(1.0, max(0.0, back * 1.6 + normal(dice, 0.0, 0.03)))
            rows[count, 3] = round(bright * 100) / 100
            ring[count], at[count], whose[count] = place, j, owner[i, j]
            count += 1
    return rows[:count], ring[:count], at[:count], whose[:count]
