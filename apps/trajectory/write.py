"""Predictions as files: JSON, CSV, and for geographic tracks GeoJSON and KML."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.geo import from_enu
from apps.trajectory.prediction import Prediction
from apps.trajectory.track import Track
from core.errors import ConfigError, DataError
from core.files import check_place, write_text
from core.tables import table_text
from core.text import in_xml

Answers = Sequence[tuple[Track, Prediction]]

SUFFIXES = (".json", ".csv", ".geojson", ".kml")


def write_predictions(answers: Answers, path: Path) -> None:
    """Write predictions in the format of the suffix, whole or not at all.

    Raises:
        ConfigError: a suffix that is none of ours.
        DataError: GeoJSON or KML of a track without a geographic origin.
        RecurraError: the file cannot be written.
    """
    suffix = check_name(path)
    if suffix == ".json":
        text = json.dumps(as_records(answers), indent=1, allow_nan=False) + "\n"
    elif suffix == ".csv":
        text = as_csv(answers)
    else:
        text = as_geojson(answers) if suffix == ".geojson" else as_kml(answers)
    write_text(path, text)


def check_name(path: Path) -> str:
    """The suffix of a file to write, looked at before the work.

    Raises:
        ConfigError: it is none of ours.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: predictions are written as {', '.join(SUFFIXES)}.")
    check_place(path)
    return suffix


def as_records(answers: Answers) -> list[dict[str, Any]]:
    """Plain values, one record a prediction; latitude, longitude, altitude where the input had them."""
    records = []
    for track, prediction in answers:
        record = {"track": track.name, "file": track.source, **prediction.as_dict()}
        if track.dated:
            record["utc"] = track.utc(prediction.time_s)
        if track.origin is not None:
            record["lat_lon_alt"] = [row.tolist() for row in geographic(track, prediction)]
        records.append(record)
    return records


def geographic(track: Track, prediction: Prediction) -> np.ndarray:
    """Anchor and known predicted positions as (n, 3) latitude deg, longitude deg, altitude m.

    Raises:
        DataError: the track has no geographic origin.
    """
    if track.origin is None:
        raise DataError(
            f"{track.name}: its file has no latitude and longitude, so GeoJSON and KML are not possible; "
            "write .json or .csv."
        )
    path = np.concatenate([prediction.anchor[None], prediction.mean])
    path = path[np.isfinite(path).all(1)]
    if path.shape[1] == 2:
        path = np.concatenate([path, np.zeros((len(path), 1))], 1)
    return from_enu(path, track.origin)


def as_csv(answers: Answers) -> str:
    """One row a predicted step; an empty field is beyond the model's horizon."""
    dims = max(len(prediction.anchor) for _, prediction in answers)
    axes = ["x", "y", "z"][:dims] if dims <= 3 else [f"p{index}" for index in range(dims)]
    rows = []
    dated = any(track.dated for track, _ in answers)
    head = ["track", "t", "ahead_s", *axes, "radius", *(["utc"] if dated else [])]
    for track, prediction in answers:
        for k, ahead in enumerate(prediction.ahead_s):
            radius = None if prediction.radius is None else prediction.radius[k]
            numbers = [*prediction.mean[k], radius]
            cells = ["" if value is None or not np.isfinite(value) else f"{value:.4f}" for value in numbers]
            if dated:
                cells.append(track.utc(prediction.time_s + float(ahead)) or "")
            rows.append([track.name, f"{prediction.time_s:.6f}", f"{ahead:.3f}", *cells])
    return table_text(head, rows)


def as_geojson(answers: Answers) -> str:
    """One LineString a prediction, in the order longitude, latitude, altitude (RFC 7946)."""
    features = []
    for track, prediction in answers:
        lla = geographic(track, prediction)
        radius = (
            None if prediction.radius is None else [round(float(r), 3) for r in finite(prediction.radius)]
        )
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "LineString",
                    "coordinates": [[round(b, 8), round(a, 8), round(h, 3)] for a, b, h in lla.tolist()],
                },
                "properties": {
                    "track": track.name,
                    "t": prediction.time_s,
                    "utc": track.utc(prediction.time_s),
                    "ahead_s": [0.0, *np.round(prediction.ahead_s, 6).tolist()][: len(lla)],
                    "radius_m": radius,
                    "coverage": prediction.coverage if radius is not None else None,
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def as_kml(answers: Answers) -> str:
    """One Placemark with a LineString a prediction (KML 2.2)."""
    places = []
    for track, prediction in answers:
        lla = geographic(track, prediction)
        line = " ".join(f"{lon:.8f},{lat:.8f},{alt:.3f}" for lat, lon, alt in lla.tolist())
        places.append(
            f"  <Placemark><name>{in_xml(track.name)} at {prediction.time_s:.2f} s</name>\n"
            "    <LineString><altitudeMode>absolute</altitudeMode>\n"
            f"      <coordinates>{line}</coordinates>\n"
            "    </LineString></Placemark>\n"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        f"{''.join(places)}</Document></kml>\n"
    )


def as_lines(answers: Answers, records: Sequence[dict[str, Any]]) -> list[str]:
    """Predictions for people: position and radius at the end of each known second."""
    text = [f"{'track':<28}{'from t':>10}{'ahead':>8}  position (m){'':<20}90 % radius (m)"]
    for (track, prediction), record in list(zip(answers, records, strict=True))[:50]:
        steps = len(prediction.mean)
        second = max(1, round(1.0 / float(prediction.ahead_s[0])))
        for k in sorted({min(second // 2, steps) - 1, *range(second - 1, steps, second), steps - 1} - {-1}):
            mean = prediction.mean[k]
            known = bool((mean == mean).all())
            position = "  ".join(f"{value:9.2f}" for value in mean) if known else "beyond the model's horizon"
            ball = f"{prediction.radius[k]:8.2f}" if prediction.radius is not None and known else ""
            when = f"{prediction.time_s:>10.2f}{prediction.ahead_s[k]:>7.1f}s"
            text.append(f"{track.name[:27]:<28}{when}  {position}  {ball}")
        near = record.get("approach")
        if near is not None:
            chance = (
                ""
                if near["entry_probability"] is None
                else f", chance of entry {near['entry_probability']:.3f}"
            )
            text.append(f"{'':<28}closest {near['distance_m']:.2f} m in {near['ahead_s']:.2f} s{chance}")
    if len(answers) > 50:
        text.append(f"... and {len(answers) - 50} more; -o or --json writes all of them")
    return text
