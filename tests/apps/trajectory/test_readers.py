"""Formats beyond tables: GPX, ArduPilot logs, JSON with objects inside objects; and clocks that need care."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.trajectory.data import read_tracks
from core.errors import DataError
from tests.apps.trajectory.test_formats import one


def gpx(points: str) -> str:
    return f'<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1">{points}</gpx>'


def gpx_track(lat: float, height: str) -> str:
    points = "".join(
        f'<trkpt lat="{lat + k * 1e-6:.7f}" lon="8">{height.format(400 + k)}'
        f"<time>2026-05-02T09:30:0{k}.5Z</time></trkpt>"
        for k in range(4)
    )
    return f"<trk><name>x</name><trkseg>{points}</trkseg></trk>"


def test_gpx_gives_its_tracks(tmp_path: Path) -> None:
    path = tmp_path / "two.gpx"
    path.write_text(gpx(gpx_track(47, "<ele>{}</ele>") + gpx_track(48, "")))
    first, second = read_tracks(path)
    np.testing.assert_allclose(first.positions[:, 2], np.arange(4), atol=1e-3)
    np.testing.assert_allclose(first.time_s, np.arange(4))
    assert first.utc(0.0) == "2026-05-02T09:30:00.500000Z"
    assert second.origin is not None
    assert second.origin[0] == pytest.approx(48.0)
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><gpx>&b;</gpx>'
    for text in (gpx(""), gpx("<trk>"), bomb, "<gpx"):
        with pytest.raises(DataError, match="GPX file"):
            one(tmp_path, text, "x.gpx")


def test_a_log_of_ardupilot_gives_its_places(tmp_path: Path) -> None:
    head = (
        "FMT, 130, 51, GPS, QBLLf, TimeUS,Status,Lat,Lng,Alt\nFMT, 131, 30, POS, QLLf, TimeUS,Lat,Lng,Alt\n"
    )
    gps = "".join(
        f"GPS, {61_000_000 + k * 200_000}, 3, 47.0, {8 + k * 1e-6:.7f}, {400 + k}\n" for k in range(4)
    )
    pos = "".join(f"POS, {61_000_000 + k * 100_000}, 47.0, 8.0, {400 + k}\n" for k in range(5))
    track = one(tmp_path, head + gps + pos + "POS, 61600000, 47.0", "x.log")
    np.testing.assert_allclose(track.time_s, np.arange(5) / 10, atol=1e-6)
    np.testing.assert_allclose(track.positions[:, 2], np.arange(5), atol=1e-3)
    assert len(one(tmp_path, head + gps, "y.log")) == 4
    with pytest.raises(DataError, match="neither POS nor GPS"):
        one(tmp_path, head, "z.log")


def test_objects_inside_objects_are_columns(tmp_path: Path) -> None:
    lines = [
        {
            "header": {"seq": k, "stamp": {"secs": 1767225600 + k, "nsecs": 500_000_000}},
            "pose": {"position": {"x": k, "y": 2 * k, "z": 3 * k}, "orientation": {"x": 0, "w": 1}},
        }
        for k in range(4)
    ]
    track = one(tmp_path, "\n".join(map(json.dumps, lines)), "pose.jsonl")
    np.testing.assert_allclose(track.positions, np.outer(np.arange(4), [1, 2, 3]))
    np.testing.assert_allclose(track.time_s, np.arange(4))
    assert track.start_ns == 1_767_225_600_500_000_000


def test_a_stamp_without_a_zone_takes_its_neighbours(tmp_path: Path) -> None:
    stamps = [f"2026-02-03T06:05:0{k}.000{'+02:00' if k < 3 else ''}" for k in range(6)]
    text = "time,x,y,z\n" + "".join(f"{stamp},{k},0,5\n" for k, stamp in enumerate(stamps))
    track = one(tmp_path, text)
    np.testing.assert_allclose(track.time_s, np.arange(6))
    assert track.utc(0.0) == "2026-02-03T04:05:00.000000Z"
    assert "3 stamps in 'time' have no zone" in track.warnings[0]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_stamps_of_single_precision_are_evened_where_their_order_survives(kind: str, tmp_path: Path) -> None:
    time_s = 1e6 + np.arange(100) / 10
    time_s[60:] += 30  # a gap
    coarse = time_s.astype(np.float32)
    frame = pd.DataFrame({"t": coarse, "x": 6 * np.arange(100) / 10, "y": 0.0, "z": 5.0})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.assign(t=[f"{value:.4f}" for value in coarse]).to_csv(path, index=False)
    (track,) = read_tracks(path)
    assert any("They are evened" in told for told in track.warnings)
    steps = np.diff(track.time_s)
    np.testing.assert_allclose(np.delete(steps, 59), 0.1, atol=2e-3)
    assert steps[59] == pytest.approx(30.1, abs=0.07)


def test_single_precision_cannot_tell_the_time(tmp_path: Path) -> None:
    t = 1.767e9 + np.arange(50) / 10
    frame = pd.DataFrame({"timestamp": t, "x": 0.3 * np.arange(50), "y": 0.0, "z": 5.0})
    path = tmp_path / "coarse.parquet"
    frame.astype({"timestamp": "float32"}).to_parquet(path)
    with pytest.raises(DataError, match=r"float32 .* tells times 128 s apart only"):
        read_tracks(path)
    (track,) = read_tracks(path, rate=10)
    np.testing.assert_allclose(np.diff(track.time_s), 0.1)
