"""A scan from above as one SVG for page and report: points as a picture, boxes that can be picked."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demos.plots import address
from vision.pointcloud.boxes import corners_bev

PIXELS = 720
RINGS_M = (10, 20, 30)
GREY = (118, 128, 140)
"""Of points: seen on light and on dark."""
COLOURS = {"Car": "var(--r-ours)", "Pedestrian": "var(--r-second)", "Cyclist": "var(--r-third)"}


@dataclass(frozen=True)
class Shape:
    """A box from above with what it says when it is picked."""

    box: np.ndarray
    """(7,) in metres."""
    colour: str
    words: str = ""
    width: float = 0.22
    """Of the line, in metres."""
    trail: np.ndarray | None = None
    """(n, 2) where it has been."""
    label: str = ""


def seen_from_above(
    points: np.ndarray,
    shapes: Sequence[Shape],
    alt: str,
    reach_m: float = 40.0,
    *,
    sensor: tuple[float, float] = (0.0, 0.0),
    pick: bool = True,
) -> str:
    """Points (n, 2) and boxes around a sensor, x to the right and y up.

    Args:
        alt: what the picture shows, in words.
        pick: boxes with words can be clicked, or chosen by arrows and Enter, and say them (`style/pick.js`).
    """
    x, y = sensor
    edge = 2 * reach_m
    parts = [
        f'<svg class="r-seen r-above" style="--r-thick:.5" viewBox="{-reach_m} {-reach_m} {edge} {edge}" '
        f'role="{"group" if pick else "img"}" aria-label="{html.escape(alt, quote=True)}">',
        f'<image href="{raster_of(np.asarray(points, np.float64)[:, :2] - (x, y), reach_m)}" '
        f'x="{-reach_m}" y="{-reach_m}" width="{edge}" height="{edge}"/>',
    ]
    for ring in RINGS_M:
        parts.append(
            f'<circle r="{ring}" fill="none" style="stroke:var(--r-line)" stroke-width=".15"/>'
            f'<text y="{-ring - 0.4}" font-size="1.5" text-anchor="middle" style="fill:var(--r-soft)" '
            f'aria-hidden="true">{ring} m</text>'
        )
    first = True
    for shape in shapes:
        if np.abs(shape.box[:2] - (x, y)).max() < reach_m:
            parts.append(drawn(shape, (x, y), (0 if first else -1) if pick else None))
            first = first and not shape.words
    parts.append('<path d="M-1 0H1M0 -1V1" style="stroke:var(--r-ink)" stroke-width=".3"/></svg>')
    told = '<p class="r-told" role="status">Pick a box.</p>' if pick else ""
    return f"<div>{''.join(parts)}{told}</div>"


def drawn(shape: Shape, origin: tuple[float, float], stop: int | None) -> str:
    """One box with a line to its front, its trail and its label.

    Args:
        stop: 0 where the tab key comes to it, -1 where the arrows do; None: it cannot be picked.
    """
    corners = corners_bev(shape.box[None])[0] - origin
    nose = corners[[0, 3]].mean(0)
    middle = shape.box[:2] - origin
    path = " ".join(f"{a:.2f},{-b:.2f}" for a, b in corners)
    words = html.escape(shape.words, quote=True)
    role = ""
    if stop is not None and words:
        role = f'data-told="{words}" tabindex="{stop}" role="button" aria-label="{words}" '
    style = f'style="stroke:{shape.colour};fill:{shape.colour}" stroke-width="{shape.width}"'
    title = f"<title>{words}</title>" if words else ""
    out = f'<polygon {role}points="{path}" {style} fill-opacity="{0.12 if words else 0}">{title}</polygon>'
    if words:
        out += f'<path d="M{middle[0]:.2f} {-middle[1]:.2f}L{nose[0]:.2f} {-nose[1]:.2f}" {style}/>'
    if shape.trail is not None and len(shape.trail) > 1:
        way = "L".join(f"{a:.2f} {-b:.2f}" for a, b in shape.trail - origin)
        out += (
            f'<path d="M{way}" style="stroke:{shape.colour};fill:none" stroke-width=".2" '
            'stroke-dasharray=".5 .5"/>'
        )
    if shape.label:
        out += (
            f'<text x="{middle[0] + 1.6:.2f}" y="{-middle[1] - 1.6:.2f}" font-size="1.9" '
            f'style="fill:{shape.colour}" aria-hidden="true">{html.escape(shape.label)}</text>'
        )
    return out


def raster_of(points: np.ndarray, reach_m: float) -> str:
    """Address of a picture of points (n, 2) that is clear where there are none."""
    from PIL import Image

    near = points[(np.abs(points) < reach_m).all(1)]
    cell = ((near + reach_m) * (PIXELS / (2 * reach_m))).astype(int)
    count = np.zeros((PIXELS, PIXELS), np.int64)
    np.add.at(count, (PIXELS - 1 - cell[:, 1], cell[:, 0]), 1)
    pixels = np.zeros((PIXELS, PIXELS, 4), np.uint8)
    pixels[..., :3] = GREY
    pixels[..., 3] = np.where(count > 0, np.minimum(150 + 35 * count, 255), 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    return address(buffer.getvalue())
