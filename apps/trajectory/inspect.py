"""What was understood of a log before anything is predicted, and the track written as it was understood."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.data import gap, rhythm, stretches
from apps.trajectory.geo import from_enu
from apps.trajectory.track import Track
from core.errors import ConfigError, DataError
from core.files import check_place, whole_file
from core.tables import table_text
from core.text import in_xml

SUFFIXES = (".csv", ".parquet", ".gpx", ".geojson")
MOST_GAPS = 20
"""Gaps that are listed, the longest first."""


def inspect(track: Track, max_gap: float | None = None) -> dict[str, Any]:
    """Everything about one track as plain values, from its format to what was repaired."""
    steps = np.diff(track.time_s)
    moves = np.linalg.norm(np.diff(track.positions, axis=0), axis=1)
    step = rhythm(track.time_s)
    limit = gap(step, max_gap)
    wide = np.flatnonzero(steps > limit)
    longest = wide[np.argsort(-steps[wide], kind="stable")][:MOST_GAPS]
    span = float(track.time_s[-1] - track.time_s[0]) if len(track) else 0.0
    within = steps[steps <= limit]
    speeds = (moves / np.maximum(steps, 1e-9))[steps <= limit]
    axes = ("east", "north", "up") if track.origin is not None else ("x", "y", "z")
    named = axes if track.positions.shape[1] <= 3 else [f"p{k}" for k in range(track.positions.shape[1])]
    return {
        "file": track.source,
        "track": track.name,
        "format": track.about.get("format"),
        "columns": track.about.get("columns", {}),
        "samples": len(track),
        "clock": {
            "begin_utc": track.utc(0.0) if len(track) else None,
            "end_utc": track.utc(span),
            "dated": track.dated,
            "span_s": span,
        },
        "rate": {
            "median_step_s": float(np.median(within)) if len(within) else None,
            "hz": float(1 / np.median(within)) if len(within) else None,
            "jitter_s": float(within.std()) if len(within) else None,
            "longest_step_s": float(steps.max()) if len(steps) else None,
            "model_step_s": step,
        },
        "stretches": [
            {"begin_s": float(piece.time_s[0]), "end_s": float(piece.time_s[-1]), "samples": len(piece)}
            for piece in stretches(track, max_gap)
        ],
        "gaps": [
            {"at_s": float(track.time_s[k]), "seconds": float(steps[k])} for k in sorted(longest.tolist())
        ],
        "frame": {
            "axes": list(named[: track.positions.shape[1]]),
            "unit": "m",
            "origin_lat_lon_alt": None if track.origin is None else list(track.origin),
            "least": track.positions.min(0).tolist(),
            "greatest": track.positions.max(0).tolist(),
        },
        "speed_mps": {
            "median": float(np.median(speeds)) if len(speeds) else None,
            "p95": float(np.quantile(speeds, 0.95)) if len(speeds) else None,
            "greatest": float(speeds.max()) if len(speeds) else None,
            "from_file": track.velocities is not None,
        },
        "remarks": list(track.warnings),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """A report for people."""
    clock, rate, frame, speed = (report[name] for name in ("clock", "rate", "frame", "speed_mps"))
    when = f"{clock['begin_utc']} to {clock['end_utc']}" if clock["dated"] else "no date"
    columns = ", ".join(
        f"{role} = {about['name']}" + (f" ({about['unit']})" if about.get("unit") else "")
        for role, about in report["columns"].items()
    )
    told = [f"{report['track']}: {report['format'] or 'track'}, {report['samples']} samples"]
    if columns:
        told.append(f"  columns   {columns}")
    told.append(f"  clock     {clock['span_s']:.3f} s, {when}")
    if rate["hz"] is not None:
        told.append(
            f"  rate      {rate['hz']:.4g} Hz, step {rate['median_step_s']:.4g} s, "
            f"jitter {rate['jitter_s']:.2g} s"
        )
    cuts = ", ".join(f"{one['seconds']:.3g} s at {one['at_s']:.3f}" for one in report["gaps"])
    told.append(f"  stretches {len(report['stretches'])}" + (f", gaps {cuts}" if cuts else ", no gap"))
    spans = ", ".join(
        f"{axis} {low:.2f} to {high:.2f}"
        for axis, low, high in zip(frame["axes"], frame["least"], frame["greatest"], strict=True)
    )
    told.append(f"  frame     {spans} m")
    if frame["origin_lat_lon_alt"] is not None:
        lat, lon, alt = frame["origin_lat_lon_alt"]
        told.append(f"  origin    {lat:.7f}, {lon:.7f}, {alt:.2f} m")
    if speed["median"] is not None:
        told.append(
            f"  speed     median {speed['median']:.2f}, 95 % below {speed['p95']:.2f}, "
            f"greatest {speed['greatest']:.2f} m/s"
        )
    return [*told, *(f"  remark    {remark}" for remark in report["remarks"])]


def check_name(path: Path) -> str:
    """The suffix of a file for tracks, looked at before the work.

    Raises:
        ConfigError: it is none of ours.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: tracks are written as {', '.join(SUFFIXES)}.")
    check_place(path)
    return suffix


def write_tracks(tracks: Sequence[Track], path: Path) -> int:
    """Write tracks as they were understood: one id, seconds and UTC, metres and places; gives the samples.

    Raises:
        ConfigError: a suffix that is none of ours.
        DataError: GPX or GeoJSON of tracks without places.
    """
    suffix = check_name(path)
    if suffix in (".gpx", ".geojson"):
        for track in tracks:
            if track.origin is None:
                raise DataError(f"{track.name}: no latitude and longitude, so no {suffix}; write .csv.")
    with whole_file(path) as partial:
        if suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            names, columns = columns_of(tracks)
            pq.write_table(pa.table(dict(zip(names, columns, strict=True))), partial)
        else:
            text = {".csv": as_csv, ".gpx": as_gpx, ".geojson": as_geojson}[suffix](tracks)
            partial.write_text(text, encoding="utf-8")
    return sum(map(len, tracks))


def places(track: Track) -> np.ndarray:
    """(N, 3) latitude, longitude, altitude; NaN for a track in metres alone."""
    if track.origin is None or track.positions.shape[1] > 3:
        return np.full((len(track), 3), np.nan)
    positions = track.positions
    if positions.shape[1] == 2:
        positions = np.column_stack([positions, np.zeros(len(positions))])
    return from_enu(positions, track.origin)


def columns_of(tracks: Sequence[Track]) -> tuple[list[str], list[list[Any]]]:
    """Names and columns: track, t, utc, x, y, z, lat, lon, alt; None where a track has none."""
    names = ["track", "t", "utc", "x", "y", "z", "lat", "lon", "alt"]
    rows: list[list[Any]] = []
    for track in tracks:
        geographic = places(track)
        for k in range(len(track)):
            position = track.positions[k][:3].tolist()
            cells = [*position, *[None] * (3 - len(position)), *geographic[k].tolist()]
            known = [None if cell is None or not np.isfinite(cell) else cell for cell in cells]
            rows.append([track.name, float(track.time_s[k]), track.utc(float(track.time_s[k])), *known])
    return names, [list(column) for column in zip(*rows, strict=True)]


def as_csv(tracks: Sequence[Track]) -> str:
    names, columns = columns_of(tracks)
    digits = {"t": 9, "x": 6, "y": 6, "z": 6, "lat": 10, "lon": 10, "alt": 4}
    kept = [name for name, column in zip(names, columns, strict=True) if any(v is not None for v in column)]
    cells = [
        ["" if v is None else f"{v:.{digits[name]}f}" if name in digits else v for v in column]
        for name, column in zip(names, columns, strict=True)
        if name in kept
    ]
    return table_text(kept, zip(*cells, strict=True))


def as_gpx(tracks: Sequence[Track]) -> str:
    """GPX 1.1, a `trk` a track."""
    told = []
    for track in tracks:
        points = []
        for k, (lat, lon, alt) in enumerate(places(track).tolist()):
            utc = track.utc(float(track.time_s[k]))
            stamp = f"<time>{utc}</time>" if utc else ""
            points.append(f'<trkpt lat="{lat:.9f}" lon="{lon:.9f}"><ele>{alt:.4f}</ele>{stamp}</trkpt>')
        joined = "\n".join(points)
        told.append(f"<trk><name>{in_xml(track.name)}</name><trkseg>\n{joined}\n</trkseg></trk>")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<gpx version="1.1" creator="recurra" xmlns="http://www.topografix.com/GPX/1/1">\n' + (
        "\n".join(told) + "\n</gpx>\n"
    )


def as_geojson(tracks: Sequence[Track]) -> str:
    """A LineString a track, with its times."""
    features = []
    for track in tracks:
        lla = places(track).tolist()
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "LineString",
                    "coordinates": [[round(lon, 9), round(lat, 9), round(alt, 4)] for lat, lon, alt in lla],
                },
                "properties": {
                    "track": track.name,
                    "t": track.time_s.round(9).tolist(),
                    "begin_utc": track.utc(0.0),
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"
