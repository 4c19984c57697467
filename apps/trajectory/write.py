"""Predictions as files: JSON, CSV, and for geographic tracks GeoJSON and KML."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from apps.trajectory.geo import from_enu
from apps.trajectory.prediction import Prediction
from apps.trajectory.track import Track
from core.errors import ConfigError, DataError
from core.files import check_place, whole_file
from core.tables import table_text
from core.text import in_json, in_xml

Answers = Sequence[tuple[Track, Prediction]]

SUFFIXES = (".json", ".csv", ".geojson", ".kml")
ASKED = ("approach_s", "approach_m", "entry_probability", "fence_probability")
"""Columns of CSV for what was asked beside the path."""
KML = '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
BEGINS = {".json": "[", ".geojson": '{"type": "FeatureCollection", "features": [', ".kml": KML}
ENDS = {".csv": "", ".json": "\n]\n", ".geojson": "\n]}\n", ".kml": "</Document></kml>\n"}


def write_predictions(answers: Answers, path: Path) -> None:
    """Write predictions in the format of the suffix, whole or not at all.

    Raises:
        ConfigError: a suffix that is none of ours.
        DataError: GeoJSON or KML of a track without a geographic origin.
        RecurraError: the file cannot be written.
    """
    check_name(path)
    tracks = [track for track, _ in answers]
    dims = max(len(prediction.anchor) for _, prediction in answers)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as out:
        sink = Sink(out, path.suffix.lower(), dims, dated=any(track.dated for track in tracks))
        for track, prediction in answers:
            sink.add(track, prediction, record_of(track, prediction))
        sink.end()


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


class Sink:
    """Predictions written one by one as they are answered: memory does not grow with their number."""

    def __init__(self, out: IO[str], suffix: str, dims: int, *, dated: bool, asked: bool = False) -> None:
        self.out, self.suffix, self.dated, self.asked = out, suffix, dated, asked
        self.count = 0
        if suffix == ".csv":
            axes = ["x", "y", "z"][:dims] if dims <= 3 else [f"p{index}" for index in range(dims)]
            head = [
                "track",
                "t",
                "ahead_s",
                *axes,
                "radius",
                *(["utc"] if dated else []),
                *(ASKED if asked else ()),
            ]
            out.write(table_text(head, []))
        else:
            out.write(
                {".json": "[", ".geojson": '{"type": "FeatureCollection", "features": [', ".kml": KML}[suffix]
            )

    def add(self, track: Track, prediction: Prediction, record: dict[str, Any]) -> None:
        """Write one more.

        Raises:
            DataError: GeoJSON or KML of a track without a geographic origin.
        """
        if self.suffix == ".csv":
            rows = csv_rows(track, prediction, record, self.dated, self.asked)
            self.out.write(table_text([""] * len(rows[0]), rows).split("\n", 1)[1])
        elif self.suffix == ".kml":
            self.out.write(placemark(track, prediction))
        else:
            value = record if self.suffix == ".json" else feature(track, prediction, record)
            self.out.write(("," if self.count else "") + "\n" + in_json(value))
        self.count += 1

    def end(self) -> None:
        """Write what ends a file; a file without it is not whole."""
        self.out.write(ENDS[self.suffix])


def as_records(answers: Answers) -> list[dict[str, Any]]:
    """Plain values, one record a prediction."""
    return [record_of(track, prediction) for track, prediction in answers]


def record_of(track: Track, prediction: Prediction) -> dict[str, Any]:
    """Plain values of one prediction; latitude, longitude, altitude and UTC where the input had them."""
    record = {"track": track.name, "file": track.source, **prediction.as_dict()}
    if track.dated:
        record["utc"] = track.utc(prediction.time_s)
    if track.origin is not None:
        record["lat_lon_alt"] = [row.tolist() for row in geographic(track, prediction)]
    return record


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


def csv_rows(
    track: Track, prediction: Prediction, record: dict[str, Any], dated: bool, is_asked: bool
) -> list[list[str]]:
    """One row a predicted step; an empty field is beyond the model's horizon."""
    near, fence = record.get("approach") or {}, record.get("fence") or []
    asked = [near.get("ahead_s"), near.get("distance_m"), near.get("entry_probability")]
    asked.append(max((area["entry_probability"] for area in fence), default=None))
    rows = []
    for k, ahead in enumerate(prediction.ahead_s):
        radius = None if prediction.radius is None else prediction.radius[k]
        numbers = [*prediction.mean[k], radius]
        cells = ["" if value is None or not np.isfinite(value) else f"{value:.4f}" for value in numbers]
        if dated:
            cells.append(track.utc(prediction.time_s + float(ahead)) or "")
        cells += ["" if value is None else f"{value:.4f}" for value in (asked if is_asked else ())]
        rows.append([track.name, f"{prediction.time_s:.6f}", f"{ahead:.3f}", *cells])
    return rows


def feature(track: Track, prediction: Prediction, record: dict[str, Any]) -> dict[str, Any]:
    """A LineString in the order longitude, latitude, altitude (RFC 7946), with all that was asked."""
    lla = geographic(track, prediction)
    radius = None if prediction.radius is None else [round(float(r), 3) for r in finite(prediction.radius)]
    return {
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
            **{name: record[name] for name in ("approach", "fence") if name in record},
        },
    }


def placemark(track: Track, prediction: Prediction) -> str:
    """A Placemark with a LineString (KML 2.2)."""
    lla = geographic(track, prediction)
    line = " ".join(f"{lon:.8f},{lat:.8f},{alt:.3f}" for lat, lon, alt in lla.tolist())
    return (
        f"  <Placemark><name>{in_xml(track.name)} at {prediction.time_s:.2f} s</name>\n"
        "    <LineString><altitudeMode>absolute</altitudeMode>\n"
        f"      <coordinates>{line}</coordinates>\n"
        "    </LineString></Placemark>\n"
    )


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


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
            where = "closest approach beyond the horizon"
            if near["ahead_s"] is not None:
                where = f"closest {near['distance_m']:.2f} m in {near['ahead_s']:.2f} s"
            text.append(f"{'':<28}{where}{chance}")
        for area in record.get("fence", ()):
            text.append(f"{'':<28}{area['area']}: chance of entry {area['entry_probability']:.3f}")
    return text
