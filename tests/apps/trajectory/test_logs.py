"""inspect, calibrate and the readers of further logs: what was understood, and what the balls then hold."""

import json
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from apps.trajectory.calibrate import calibrate, save_calibrated
from apps.trajectory.data import Track, read_tracks
from apps.trajectory.dense import is_dense, through_all
from apps.trajectory.fence import entries, read_areas
from apps.trajectory.formats import Options, read
from apps.trajectory.inspect import inspect, write_tracks
from apps.trajectory.model import load_model
from apps.trajectory.predict import predict
from core.errors import ConfigError, DataError


def flight(number: int, samples: int = 80, noise: float = 0.3) -> Track:
    rng = np.random.default_rng(number)
    time_s = np.arange(samples) / 10
    path = time_s[:, None] * rng.normal(0, 3, 3) + rng.normal(0, noise, (samples, 3))
    return Track(f"flight{number}", f"flight{number}.csv", time_s, None, path)


def test_balls_fitted_to_own_flights_hold_flights_that_were_left_out(tmp_path: Path) -> None:
    model, report = calibrate([flight(number) for number in range(24)], load_model())
    assert report["flights"] == 24
    assert report["left_out"] == 20
    assert 0.8 <= report["after"]["1"]["inside"] <= 0.98
    save_calibrated(model, tmp_path / "mine.safetensors", report)
    again = load_model(tmp_path / "mine.safetensors")
    np.testing.assert_allclose(again.factor(), model.factor(), rtol=1e-4)
    ours, theirs = (predict(flight(99), one) for one in (again, load_model()))
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-3)
    assert not np.allclose(ours.radius, theirs.radius, rtol=1e-2)


def test_one_flight_is_too_few_to_leave_one_out() -> None:
    with pytest.raises(DataError, match="needs two"):
        calibrate([flight(0)], load_model())


def test_what_was_understood_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"{k / 5},{47 + k * 1e-6},{8.0},{400 + k * 0.1}" for k in [*range(30), *range(60, 90)]]
    path.write_text("time [s],lat,lon,altitude (feet)\n" + "\n".join(rows) + "\n")
    (track,) = read_tracks(path)
    report = inspect(track)
    assert report["format"] == "table"
    assert report["columns"]["alt"] == {"name": "altitude (feet)", "unit": "feet"}
    assert report["columns"]["t"]["unit"] == "s"
    assert report["rate"]["hz"] == pytest.approx(5)
    assert [round(gap["seconds"], 3) for gap in report["gaps"]] == [6.2]
    assert [piece["samples"] for piece in report["stretches"]] == [30, 30]
    assert report["frame"]["origin_lat_lon_alt"][0] == pytest.approx(47)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".gpx", ".geojson"])
def test_a_clean_copy_reads_as_what_was_understood(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"{1767225600 + k / 10},{47 + k * 1e-6},{8.0 + k * 2e-6},{400 + k * 0.1}" for k in range(40)]
    path.write_text("time,lat,lon,alt\n" + "\n".join(rows) + "\n")
    (track,) = read_tracks(path)
    out = tmp_path / f"clean{suffix}"
    assert write_tracks([track], out) == 40
    if suffix == ".geojson":
        feature = json.loads(out.read_text())["features"][0]
        assert feature["geometry"]["coordinates"][3] == pytest.approx([8.000006, 47.000003, 400.3])
        assert feature["properties"]["begin_utc"] == "2026-01-01T00:00:00.000000Z"
        return
    (again,) = read_tracks(out)
    np.testing.assert_allclose(again.positions, track.positions, atol=2e-3)
    np.testing.assert_allclose(again.time_s, track.time_s, atol=1e-6)


def test_tracks_without_places_make_no_map(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no latitude and longitude"):
        write_tracks([flight(0)], tmp_path / "a.gpx")
    with pytest.raises(ConfigError, match=r"\.csv, \.parquet, \.gpx, \.geojson"):
        write_tracks([flight(0)], tmp_path / "a.shp")


def test_lines_go_through_all_samples_of_a_fast_recorder() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(400) / 100
    path = np.stack([3 + 5 * time_s, -2 * time_s, 0 * time_s], 1)
    noisy = path + rng.normal(0, 0.1, path.shape)
    assert is_dense(time_s, 0.1)
    assert not is_dense(time_s[::10], 0.1)
    lines = through_all(time_s, noisy, time_s[[300, 399]], 0.1)
    here = noisy[[300, 399]]
    np.testing.assert_allclose(lines[:, 1, 0] + here, path[[300, 399]], atol=0.06)
    np.testing.assert_allclose(lines[:, 1, 1], np.tile([0.5, -0.2, 0], (2, 1)), atol=0.01)
    for number, last in enumerate((300, 399)):
        inside = slice(last - 200, last + 1)
        fit = np.polyfit(time_s[inside] - time_s[last], noisy[inside], 1)
        np.testing.assert_allclose(lines[number, 1, 1], fit[0] * 0.1, atol=1e-9)
        np.testing.assert_allclose(lines[number, 1, 0] + here[number], fit[1], atol=1e-9)


def test_a_fence_with_a_ceiling_is_entered_or_not(tmp_path: Path) -> None:
    ring = [[5, -5], [20, -5], [20, 5], [5, 5], [5, -5]]
    areas = [
        {
            "type": "Feature",
            "properties": {"name": name, **told},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for name, told in (("ahead", {}), ("above", {"floor_m": 50, "ceiling_m": 80}))
    ]
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": areas}))
    time_s = np.arange(40) / 10
    straight = Track(
        "a", "a.csv", time_s, None, np.stack([8 * (time_s - 3.9), 0 * time_s, 10 + 0 * time_s], 1)
    )
    found = entries(predict(straight), read_areas(path), None)
    assert [one["area"] for one in found] == ["ahead", "above"]
    assert found[0]["entry_probability"] > 0.95
    assert found[1]["entry_probability"] < 0.05
    assert not found[0]["inside_now"]
    path.write_text("{}")
    with pytest.raises(DataError, match="no Polygon"):
        read_areas(path)


def sentence(body: str) -> str:
    total = 0
    for byte in body.encode():
        total ^= byte
    return f"${body}*{total:02X}"


def test_nmea_goes_on_over_midnight_and_leaves_out_wrong_sums(tmp_path: Path) -> None:
    told = []
    for k in range(40):
        second = 86_390 + k * 0.5
        day, rest = divmod(second, 86_400)
        clock = f"{int(rest // 3600):02d}{int(rest % 3600 // 60):02d}{rest % 60:05.2f}"
        place = f"4700.{int(k * 10):04d},N,00800.0000,E"
        told.append(sentence(f"GPRMC,{clock},A,{place},1.0,0.0,{'010226' if day else '310126'},,,A"))
        told.append(sentence(f"GPGGA,{clock},{place},1,08,0.9,{400 + k}.0,M,47.0,M,,"))
    told[10] = told[10].replace("4700", "4800")
    path = tmp_path / "log.nmea"
    path.write_text("\n".join(told) + "\n")
    (track,) = read_tracks(path)
    assert len(track) == 40
    np.testing.assert_allclose(np.diff(track.time_s), 0.5, atol=1e-6)
    assert track.utc(0.0) == "2026-01-31T23:59:50.000000Z"
    assert any("1 sentences with a wrong sum" in warning for warning in track.warnings)
    np.testing.assert_allclose(np.diff(track.positions[:, 2]), 1.0, atol=1e-2)


def test_an_on_board_log_is_read_without_any_library(tmp_path: Path) -> None:
    head = b"\xa3\x95"

    def fmt(number: int, name: bytes, letters: bytes, columns: bytes, size: int) -> bytes:
        return head + bytes([128]) + struct.pack("<BB4s16s64s", number, size, name, letters, columns)

    data = fmt(128, b"FMT", b"BBnNZ", b"Type,Length,Name,Format,Columns", 89)
    data += fmt(7, b"POS", b"QLLfff", b"TimeUS,Lat,Lng,Alt,RelHomeAlt,RelOriginAlt", 31)
    for k in range(50):
        values = 10_000_000 + k * 100_000, 470_000_000 + k * 54, 80_000_000, 400 + k * 0.3, k * 0.3, k * 0.3
        data += head + bytes([7]) + struct.pack("<Qiifff", *values)
    path = tmp_path / "00000001.BIN"
    path.write_bytes(data + head + b"\x07half")
    (track,) = read_tracks(path)
    assert len(track) == 50
    np.testing.assert_allclose(track.time_s, np.arange(50) / 10, atol=1e-6)
    np.testing.assert_allclose(np.diff(track.positions[:, 2]), 0.3, atol=1e-2)


def test_trajnet_and_stanford_files_are_known(tmp_path: Path) -> None:
    scenes = [json.dumps({"scene": {"id": 0, "p": 1, "s": 0, "e": 200, "fps": 2.5}})]
    scenes += [
        json.dumps({"track": {"f": 10 * k, "p": p, "x": p + 0.4 * k, "y": -0.2 * k}})
        for k in range(20)
        for p in (1, 2)
    ]
    path = tmp_path / "biwi.ndjson"
    path.write_text("\n".join(scenes) + "\n")
    tracks = read_tracks(path)
    assert len(tracks) == 2
    np.testing.assert_allclose(np.diff(tracks[0].time_s), 0.4, atol=1e-6)
    boxes = [f'{p} {100 + k + p} 50 {110 + k + p} 70 {k} 0 0 1 "Biker"' for p in (0, 1) for k in range(30)]
    path = tmp_path / "annotations.txt"
    path.write_text("\n".join(boxes) + "\n")
    tracks = read_tracks(path)
    assert len(tracks) == 2
    assert "pixels" in tracks[0].warnings[0]
    np.testing.assert_allclose(np.diff(tracks[0].positions[:, 0]), 1.0)
    np.testing.assert_allclose(np.diff(tracks[0].time_s), 1 / 30, atol=1e-6)


@pytest.mark.parametrize(
    ("stamps", "first"),
    [
        (["17/07/2026 05:13:00", "17/07/2026 05:13:01"], (2026, 7, 17)),
        (["07/17/2026 05:13:00", "07/17/2026 05:13:01"], (2026, 7, 17)),
        (["01/02/2026 23:59:59", "02/02/2026 00:00:00"], (2026, 2, 1)),
    ],
)
def test_day_and_month_are_told_apart(stamps: list[str], first: tuple[int, int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,x,y\n" + "".join(f"{stamp},{k},0\n" for k, stamp in enumerate(stamps)))
    (track,) = read_tracks(path)
    assert track.start_ns is not None
    assert datetime.fromtimestamp(track.start_ns // 10**9, UTC).timetuple()[:3] == first


def test_dates_that_may_be_either_are_refused_until_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,x,y\n05/06/2026 10:00:00,0,0\n05/06/2026 10:00:01,1,0\n")
    with pytest.raises(DataError, match="time_unit=dmy or mdy"):
        read_tracks(path)
    (track,) = read_tracks(path, time_unit="mdy")
    assert track.start_ns is not None
    assert datetime.fromtimestamp(track.start_ns // 10**9, UTC).month == 5


def test_the_unit_of_an_altitude_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,lat,lon,alt\n" + "".join(f"{k * 100},47.0,8.0,{1000 + k}\n" for k in range(30)))
    (track,) = read(path, Options(t="ms", alt="ft"))
    np.testing.assert_allclose(np.diff(track.positions[:, 2]), 0.3048, atol=1e-6)
    np.testing.assert_allclose(np.diff(track.time_s), 0.1)
    with pytest.raises(DataError, match="no unit 'yd' of altitude"):
        Options(alt="yd")
