"""GPX 1.0 and 1.1: every `trk` is a track of its `trkpt`s (https://www.topografix.com/GPX/1/1); and the
`gx:Track`s of KML, whose times (`when`) and places (`gx:coord`) stand in two lists."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError


def read_gpx(path: Path, text: bytes, options: Options) -> list[Track]:
    """One track per `trk`, with times and altitudes as far as they are there.

    Raises:
        DataError: no XML, entities that unfold, or no point of a track.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, iterparse

    if text.count(b"trkpt") > 2 * OBJECTS:  # a point has two tags
        raise DataError(f"{path}: more than {OBJECTS:,} points; cut it into parts.")
    rows: list[dict[str, Any]] = []
    moments: list[str] = []
    places: list[list[str]] = []
    said: tuple[str, ...] = ()
    track = 0
    try:
        for _, element in iterparse(io.BytesIO(text), ("end",)):
            kind = element.tag.rpartition("}")[2]
            if kind == "trkpt":
                inside = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
                place = {"lat": element.get("lat"), "lon": element.get("lon"), "alt": inside.get("ele")}
                rows.append({"track": track, "time": inside.get("time"), **place})
                element.clear()
            elif kind == "when":
                moments.append((element.text or "").strip())
            elif kind == "coord":
                places.append(str(element.text or "").split())
            elif kind in ("trk", "Track"):
                for moment, (lon, lat, *alt) in zip(moments, places, strict=False):
                    height = alt[0] if alt else None
                    rows.append({"track": track, "time": moment, "lat": lat, "lon": lon, "alt": height})
                moments, places = [], []
                track += 1
    except ParseError as error:
        ends = "no element found" in str(error) or "unclosed token" in str(error)
        if not (rows and ends):
            raise DataError(f"{path}: damaged GPX file ({str(error).splitlines()[0]}).") from None
        said = ("the file ends inside an element; what is whole is read.",)
    except (DefusedXmlException, ValueError) as error:
        raise DataError(f"{path}: damaged GPX file ({str(error).splitlines()[0]}).") from None
    if not rows:
        raise DataError(f"{path}: a GPX file (or KML) without points of a track (trkpt, gx:Track).")
    frame = pd.DataFrame(rows)
    if all(row["time"] is None for row in rows):
        frame = frame.drop(columns="time")
    return from_names(Table(path, frame, named=True, said=said), options)
