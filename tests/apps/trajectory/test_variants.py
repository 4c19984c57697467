"""One flight as many recorders write it: 6, 2, 0.5 (or, by places, 3) metres a second in all of them."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from apps.trajectory.formats import read
from apps.trajectory.formats.options import Options
from core.errors import DataError

COUNT = 100
T = np.arange(COUNT) / 10
X, Y, Z = 6 * T + 3, 2 * T - 5, 30 + 0.5 * T
LAT, LON = 47 + Y / 111_195, 8 + X / (111_195 * math.cos(math.radians(47)))
ALT = 400 + 3 * T


def cells(values: np.ndarray, digits: int = 6) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def csv(head: str, *columns: Sequence[str], by: str = ",", rows: slice = slice(None)) -> str:
    return head + "\n" + "".join(by.join(row) + "\n" for row in list(zip(*columns, strict=True))[rows])


CLOCK, XYZ = cells(T, 3), (cells(X), cells(Y), cells(Z))
PLACE = (cells(LAT, 8), cells(LON, 8), cells(ALT, 2))
MICROS = [str(int(5e7 + t * 1e6)) for t in T]
OF_DAY = [f"2026-05-01T10:00:{t:06.3f}" for t in T]
PLAIN = csv("t,x,y,z", CLOCK, *XYZ)
BODY = PLAIN.partition("\n")[2]
RECORDS = [dict(zip("txyz", map(float, row), strict=True)) for row in zip(CLOCK, *XYZ, strict=True)]


def without(column: Sequence[str], lost: Callable[[float], bool], put: str) -> list[str]:
    return [put if lost(t) else cell for t, cell in zip(T, column, strict=True)]


def points(name: str) -> str:
    rows = zip(*PLACE, OF_DAY, strict=True)
    if name == "gpx":
        inside = (
            f'<trkpt lat="{a}" lon="{b}"><ele>{c}</ele><time>{t}Z</time></trkpt>\n' for a, b, c, t in rows
        )
        return '<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>' + "".join(inside)
    whole = [(f"<when>{t}Z</when>", f"<gx:coord>{b} {a} {c}</gx:coord>") for a, b, c, t in rows]
    inside = (text for column in zip(*whole, strict=True) for text in column)
    return (
        '<kml xmlns:gx="http://www.google.com/kml/ext/2.2"><gx:Track>'
        + "\n".join(inside)
        + "</gx:Track></kml>"
    )


LOCAL = {
    "counter of us": csv("timestamp,x,y,z", MICROS, *XYZ),
    "ArduPilot local": csv("TimeUS,PN,PE,PD", MICROS, XYZ[1], XYZ[0], cells(-Z)),
    "ts": csv("ts,x,y,z", CLOCK, *XYZ),
    "unix_time": csv("unix_time,x,y,z", cells(1.78e9 + T, 3), *XYZ),
    "deciseconds": csv("t [ds],x,y,z", cells(10 * T, 1), *XYZ),
    "time of day": csv(
        "time,x,y,z", [f"23:59:{55 + t:06.3f}" if t < 5 else f"00:00:{t - 5:06.3f}" for t in T], *XYZ
    ),
    "minutes": csv("time,x,y,z", [f"05:{t:06.3f}" for t in T], *XYZ),
    "commas": csv("time;x;y;z", *[[cell.replace(".", ",") for cell in c] for c in (OF_DAY, *XYZ)], by=";"),
    "days of a spreadsheet": csv("time,x,y,z", cells(46_000.5 + T / 86_400, 10), *XYZ),
    "seconds, then milliseconds": csv(
        "time,x,y,z", cells(np.where(T < 5, 1.78e9 + T, 1.78e12 + 1000 * T), 3), *XYZ
    ),
    "row of units": csv("t,x,y,z\ns,mm,mm,mm", CLOCK, *[cells(1000 * c, 1) for c in (X, Y, Z)]),
    "header again": csv("t,x,y,z", CLOCK, *XYZ, rows=slice(50))
    + csv("t,x,y,z", CLOCK, *XYZ, rows=slice(50, 100)),
    "rows end in a separator": csv("t,x,y,z", CLOCK, *XYZ, [""] * COUNT),
    "rows are longer": csv("t,x,y,z", CLOCK, *XYZ, ["ok"] * COUNT),
    "rows numbered by R": csv("t,x,y,z", [f'"{k + 1}"' for k in range(COUNT)], CLOCK, *XYZ),
    "feet": csv("t,x_ft,y_ft,z_ft", CLOCK, *[cells(c / 0.3048) for c in (X, Y, Z)]),
    "position of QGroundControl": csv(
        "Timestamp,localPosition.x,localPosition.y,localPosition.z", OF_DAY, *XYZ
    ),
    "first sample astray": csv("t,x,y,z", CLOCK, cells(np.where(T < 0.05, 500, X)), *XYZ[1:]),
    "second sample astray": csv("t,x,y,z", CLOCK, cells(np.where(np.abs(T - 0.1) < 0.01, 500, X)), *XYZ[1:]),
    "cut in a stamp": PLAIN + "10",
    "cut in a number": PLAIN + "10.000,63.000000,15.000000,3",
    "cut in quotes": csv("t,x,y,z,name", CLOCK, *XYZ, ['"A"'] * COUNT)[:-3],
    "UTF-16": PLAIN,
    "zone by name": csv("TSTAMP,x,y,z", [f"{t.replace('T', ' ')} GMT" for t in OF_DAY], *XYZ),
    "year first, slashes": csv("time,x,y,z", [t.replace("-", "/").replace("T", " ") for t in OF_DAY], *XYZ),
    "centres of boxes": csv("t,xCenter,yCenter,zCenter,xVelocity,yVelocity", CLOCK, *XYZ, *XYZ[:2]),
    "frames beside velocities": csv(
        "frame,id,x,y,z,xVelocity,yVelocity",
        [str(k) for k in range(COUNT)],
        ["4"] * COUNT,
        *XYZ,
        ["6"] * COUNT,
        ["2"] * COUNT,
    ),
    "JSON lines, cut": "".join(json.dumps(record) + "\n" for record in RECORDS)[:-9],
    "JSON, printed nicely": json.dumps({"samples": RECORDS, "by": {"name": "me"}}, indent=1),
    "JSON, one array a column": json.dumps({key: [record[key] for record in RECORDS] for key in "txyz"}),
}
PLACED = {
    "tow": csv("tow(msec),lat,lon,height", [str(int(4e8 + t * 1e3)) for t in T], *PLACE),
    "AirData": csv(
        "time(millisecond),datetime(utc),latitude,longitude,height_above_takeoff(feet),message",
        [str(int(1000 * t)) for t in T],
        OF_DAY,
        *PLACE[:2],
        cells(3 * T / 0.3048, 3),
        ["", "Go Home"] * 50,
    ),
    "DJI": csv(
        "OSD.flyTime [s],OSD.latitude,OSD.longitude,OSD.altitude [ft]",
        CLOCK,
        *PLACE[:2],
        cells(ALT / 0.3048, 2),
    ),
    "radians": csv(
        "t,lat [rad],lon [rad],alt", CLOCK, cells(np.radians(LAT), 10), cells(np.radians(LON), 10), PLACE[2]
    ),
    "1e-7 degrees by name": csv(
        "t,lat_e7,lon_e7,alt_mm", CLOCK, cells(1e7 * LAT, 0), cells(1e7 * LON, 0), cells(1000 * ALT, 0)
    ),
    "GPS Altitude": csv("t,lat,lon,GPS Altitude", CLOCK, *PLACE),
    "no fix for a while": csv("t,lat,lon,alt", CLOCK, *[without(c, lambda t: 4 < t < 5, "0") for c in PLACE]),
    "no altitude for a while": csv(
        "t,lat,lon,alt", CLOCK, *PLACE[:2], without(PLACE[2], lambda t: 4 < t < 5, "0")
    ),
    "feet by geometry": csv(
        "timestamp;icao24;latitude;longitude;alt_geom_ft;gs_kt",
        [str(round(1.78e12 + 1000 * t)) for t in T],
        ["4b1806"] * COUNT,
        *PLACE[:2],
        cells(ALT / 0.3048, 2),
        ["12.5"] * COUNT,
        by=";",
    ),
    "both in one cell": csv(
        "Timestamp,Callsign,Position,Altitude",
        cells(1.78e9 + T, 3),
        ["SWR12"] * COUNT,
        [f'"{a},{b}"' for a, b in zip(*PLACE[:2], strict=True)],
        cells(ALT / 0.3048, 2),
    ),
    "BaseStation": "".join(
        f"MSG,3,1,1,4B1806,1,2026/05/01,{t[11:]},2026/05/01,{t[11:]},,{c},,,{a},{b},,,0,0,0,0\n"
        + f"MSG,4,1,1,4B1806,1,2026/05/01,{t[11:]},2026/05/01,{t[11:]},,,160,76,,,5,,0,0,0,0\n"
        for t, a, b, c in zip(OF_DAY, *PLACE[:2], cells(ALT / 0.3048, 2), strict=True)
    ),
    "readsb": json.dumps(
        {
            "icao": "4b1806",
            "timestamp": 1.78e9,
            "trace": [
                [*map(float, row), 160.2, 76.1, 0]
                for row in zip(CLOCK, *PLACE[:2], cells(ALT / 0.3048, 2), strict=True)
            ],
        }
    ),
    "an altitude in metres inside": "".join(
        json.dumps({"timestamp": t, "car": {"at": {"latitude": a, "longitude": b, "altitude_m": c}}}) + "\n"
        for t, *row in zip(OF_DAY, *PLACE, strict=True)
        for a, b, c in [map(float, row)]
    ),
    "hemispheres": csv(
        "time,latitude,longitude,alt",
        OF_DAY,
        [f"{a}N" for a in PLACE[0]],
        [f"E {b}" for b in PLACE[1]],
        PLACE[2],
    ),
    "degrees, minutes, seconds": csv(
        "time,latitude,longitude,alt",
        OF_DAY,
        *[
            [
                f"{int(v)}\N{DEGREE SIGN}{int(v % 1 * 60)}'{v * 60 % 1 * 60:.4f}'' {side}"
                for v in map(float, column)
            ]
            for column, side in zip(PLACE, "NE", strict=False)
        ],
        PLACE[2],
    ),
    "GPX, cut": points("gpx")[:-20],
    "KML": points("kml"),
}


@pytest.mark.parametrize("kind", [*LOCAL, *PLACED])
def test_a_flight_is_the_same_whoever_wrote_it(kind: str, tmp_path: Path) -> None:
    text = {**LOCAL, **PLACED}[kind]
    path = tmp_path / "log.txt"
    path.write_bytes(text.encode("utf-16" if kind == "UTF-16" else "utf-8"))
    (track,) = read(path, Options())
    assert len(track) >= 90
    np.testing.assert_allclose(np.diff(track.time_s)[-20:], 0.1, atol=2e-5)
    wanted = [6, 2, 0.5 if kind in LOCAL else 3]
    np.testing.assert_allclose((track.positions[-1] - track.positions[-21]) / 2, wanted, atol=0.03)


def test_what_has_no_track_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.kml"
    path.write_text("<kml><Document/></kml>")
    with pytest.raises(DataError, match=r"KML\) without points of a track"):
        read(path, Options())
    path = tmp_path / "b.csv"
    path.write_text("t,x1,y1,z1\n0,1,2,3\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"no columns of position; name them by --read columns=x=NAME"):
        read(path, Options())
