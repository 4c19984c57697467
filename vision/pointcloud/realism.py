"""How near generated scans come to recorded ones: fill of cars, returns, rings, ranges; as a page."""

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np

from core.files import write_text
from vision.pointcloud.crops import FIRST_TEST
from vision.pointcloud.synth.scan import Scan, rays_towards, simulate

MOST = 40
"""Scans that a report looks at."""
REAL = {
    "fill of cars at 15-30 m": ".67 (.45 to .73)",
    "fill of cars beyond 30 m": ".31 (.11 to .56)",
    "share of firings that return": ".88 to .99",
    "points of a car at 7-9 m": "1900 (seen from behind)",
    "points of a car at 18-20 m": "160 to 220 (seen from behind)",
    "points of a car at 34-36 m": "55 to 84 (seen from behind)",
}
"""Measured on labelled recordings of a 64-ring sensor; they are set beside, never fitted here."""
BINS = np.array([0, 5, 10, 15, 20, 30, 40, 60, 80, 120])


def measured(scans: Sequence[Scan]) -> dict[str, str]:
    """Numbers of `REAL` for generated scans: median and, where they spread, tenth to ninetieth percent."""
    fill: dict[str, list[float]] = {"fill of cars at 15-30 m": [], "fill of cars beyond 30 m": []}
    points: dict[tuple[int, int], list[int]] = {(7, 9): [], (18, 20): [], (34, 36): []}
    for scan in scans:
        away = np.hypot(scan.boxes[:, 0], scan.boxes[:, 1])
        clear = (scan.kinds == 0) & (scan.visible > 0.85) & (scan.met > 20)
        share = scan.counts / np.maximum(rays_towards(scan.boxes.astype(np.float64), scan.sensor), 1)
        fill["fill of cars at 15-30 m"] += list(share[clear & (away > 15) & (away < 30)])
        fill["fill of cars beyond 30 m"] += list(share[clear & (away > 30) & (away < 60)])
        for (low, high), found in points.items():
            found += list(scan.counts[clear & (away >= low) & (away < high)])
    out = {name: spread(values) for name, values in fill.items()}
    out["share of firings that return"] = spread([len(scan.points) / scan.fired for scan in scans])
    for (low, high), found in points.items():
        out[f"points of a car at {low}-{high} m"] = spread(found, 0)
    return out


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (10 % to 90 %)`."""
    if not len(values):
        return "-"
    low, middle, high = np.quantile(np.asarray(values, float), [0.1, 0.5, 0.9])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def picture(scans: Sequence[Scan]) -> str:
    """A PNG as a data address: two scans from above, ranges, and gaps between rings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), dpi=80)
    axes = figure.subplots(2, 2)
    for place, scan in zip(axes[0], scans[:2], strict=False):
        rows = scan.points[:: max(1, len(scan.points) // 20_000)]
        height = np.clip(rows[:, 2], -2, 2)
        place.scatter(rows[:, 0], rows[:, 1], s=0.3, c=height, cmap="viridis", linewidths=0)
        place.set_xlim(-45, 45)
        place.set_ylim(-45, 45)
        place.set_aspect("equal")
        place.set_title(f"{scan.sensor.name}, {len(scan.points):,} points")
    ranges = np.concatenate([np.hypot(scan.points[:, 0], scan.points[:, 1]) for scan in scans])
    share, _ = np.histogram(ranges, BINS)
    axes[1, 0].bar(range(len(share)), share / share.sum())
    axes[1, 0].set_xticks(range(len(share)), [f"{low}-{high}" for low, high in pairwise(BINS)])
    axes[1, 0].set_title("share of points by range, m")
    gaps = -np.diff(np.sort(scans[0].sensor.elevations)[::-1])
    axes[1, 1].plot(gaps, ".")
    axes[1, 1].set_title("degrees between a ring and the next, from the top")
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_report(path: str | Path, count: int, sensor: str, seed: int) -> list[str]:
    """A page on the scans that `simulate` writes with these words; gives its table as lines."""
    scans = [simulate(FIRST_TEST + 10_000 * seed + k, sensor) for k in range(min(count, MOST))]
    found = measured(scans)
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(found[name])}</td><td>{escape(real)}</td></tr>"
        for name, real in REAL.items()
    )
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em}img{max-width:100%}"
    write_text(
        path,
        f"<!doctype html><meta charset=utf-8><title>Generated scans</title><style>{style}</style>"
        f"<h1>{len(scans)} generated scans, {escape(sensor)}</h1><table><tr><th></th><th>generated</th>"
        f"<th>recorded, 64 rings</th></tr>{rows}</table><img alt='Scans' src='{picture(scans)}'>\n",
    )
    return [f"{name}: {found[name]}; recorded {real}" for name, real in REAL.items()]
