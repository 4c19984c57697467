"""Logs as people have them: units, ids, altitudes, jumps and clocks that must not give a wrong number."""

from pathlib import Path

import numpy as np
import pytest

from apps.trajectory.data import read_tracks
from tests.apps.trajectory.test_formats import one, rows


@pytest.mark.parametrize(
    ("name", "step", "metres", "seconds", "said"),
    [
        ("t", 10, 0.06, 0.01, "read as ms: as s there were"),  # a counter of milliseconds at 100 Hz
        ("t", 1000, 5.0, 1.0, "read as ms"),  # and at 1 Hz
        ("t", 30, 240.0, 30.0, None),  # ships report every 30 s
        ("t", 1, 8.0, 1.0, None),
        ("t", 100_000, 0.6, 0.1, "read as us"),
        ("time_ms", 0.1, 0.6, 0.1, "read as s"),  # a header that lies
        ("time_ms", 100, 0.6, 0.1, None),
        ("t", 0.005, 0.05, 0.005, None),
        ("t", 10, 0.0, 10.0, None),  # nothing moves: nothing tells
    ],
)
def test_the_unit_of_time_is_what_rate_and_speed_allow(
    name: str, step: float, metres: float, seconds: float, said: str | None, tmp_path: Path
) -> None:
    text = f"{name},x,y,z\n" + "".join(f"{7 * step + k * step:g},{k * metres},0,5\n" for k in range(20))
    track = one(tmp_path, text)
    np.testing.assert_allclose(np.diff(track.time_s), seconds, rtol=1e-6)
    told = [warning for warning in track.warnings if f"times in {name!r}" in warning]
    assert not told if said is None else said in told[0]
    # who says the unit is believed
    forced = one(tmp_path, text, time_unit="s")
    np.testing.assert_allclose(np.diff(forced.time_s), step, rtol=1e-6)


def test_a_jump_and_back_is_left_out_and_a_hard_turn_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(100) / 10
    way = np.stack([6 * t, 2 * t, 30 + 0 * t], 1) + rng.normal(0, 0.02, (100, 3))
    text = "t,x,y,z\n" + rows(t.round(3).tolist(), way)
    assert not one(tmp_path, text).warnings
    for wrong in ([50], [50, 51], [99]):
        off = way.copy()
        off[wrong] += [60, -50, 0]
        track = one(tmp_path, "t,x,y,z\n" + rows(t.round(3).tolist(), off))
        assert len(track) == 100 - len(wrong)
        assert f"{len(wrong)} sample" in track.warnings[0]
    moved = way + np.where(np.arange(100) < 50, 0, 40)[:, None]
    track = one(tmp_path, "t,x,y,z\n" + rows(t.round(3).tolist(), moved))
    assert len(track) == 100
    assert "jumps once and stays there" in track.warnings[0]
    # eight g for half a second is a racing drone, not a jump
    v = np.where(t < 5, 10.0, np.maximum(10 - 80 * (t - 5), -30))
    racing = np.stack([np.cumsum(v) / 10, 0 * t, 0 * t], 1)
    assert not one(tmp_path, "t,x,y,z\n" + rows(t.round(3).tolist(), racing)).warnings


def test_a_clock_that_begins_again_begins_a_new_stretch(tmp_path: Path) -> None:
    first = "".join(f"{100 + k / 10},{k},0,5\n" for k in range(40))
    second = "".join(f"{k / 10},{300 + k},9,5\n" for k in range(30))
    track = one(tmp_path, "t,x,y,z\n" + first + second)
    assert len(track) == 70
    np.testing.assert_array_equal(track.positions[:, 0], [*range(40), *range(300, 330)])
    assert (np.diff(track.time_s) > 0).all()
    assert track.time_s[40] - track.time_s[39] == pytest.approx(10)
    assert "the clock begins again at row 41" in track.warnings[0]
    # a little disorder is sorted, as before
    swapped = "t,x,y,z\n" + "".join(f"{k / 10},{k},0,5\n" for k in (0, 2, 1, 3, 4, 5))
    assert "rows are sorted" in one(tmp_path, swapped).warnings[0]


@pytest.mark.parametrize(
    ("size", "why"), [(604800, "GPS week"), (86400, "the day ends"), (4294967.296, "full")]
)
def test_a_counter_that_rolls_over_goes_on(size: float, why: str, tmp_path: Path) -> None:
    text = "".join(f"{(size - 3 + k / 10) % size:.3f},{k},0,5\n" for k in range(60))
    track = one(tmp_path, "t,x,y,z\n" + text, time_unit="s")
    np.testing.assert_allclose(np.diff(track.time_s), 0.1, atol=1e-6)
    assert why in track.warnings[0]


def test_text_beside_a_flight_never_cuts_it(tmp_path: Path) -> None:
    modes = "".join(f"{k / 10},{k},0,0,{'AUTO' if k < 5 else 'LOITER'},remark {k}\n" for k in range(10))
    assert len(one(tmp_path, "t,x,y,z,mode,note\n" + modes)) == 10
    named = "t,x,y,z,name\n" + "".join(f"{k / 10},{k},0,0,remark {k}\n" for k in range(10))
    assert "column 'name' differs in most rows" in one(tmp_path, named).warnings[0]


def test_ids_are_names_and_not_numbers(tmp_path: Path) -> None:
    path = tmp_path / "air.csv"
    ids = ["39e102", "4e7123", "007", "07", ""]
    lines = [f"{t / 10},{name},{t},{n},0\n" for t in range(4) for n, name in enumerate(ids)]
    path.write_text("time,icao24,x,y,z\n" + "".join(lines))
    found = read_tracks(path)
    assert [track.name for track in found] == ["air/39e102", "air/4e7123", "air/007", "air/07"]
    assert all(len(track) == 4 for track in found)
    assert any("4 rows without an id" in warning for warning in found[0].warnings)


def test_the_fewest_ids_that_keep_time_going_forward_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "ships.csv"
    ships = (("219000001", "ANNA, OF SEA"), ("219000002", "BERTA"))
    lines = [f'{t},{mmsi},"{name}",{t},0,0\n' for t in range(5) for mmsi, name in ships]
    path.write_text("time,mmsi,name,x,y,z\n" + "".join(lines))
    found = read_tracks(path)
    assert [track.name for track in found] == ["ships/219000001", "ships/219000002"]
    assert any("'name' is not needed" in warning for warning in found[0].warnings)


def test_a_rate_counts_the_samples_of_each_track(tmp_path: Path) -> None:
    path = tmp_path / "three.csv"
    path.write_text("id,x,y,z\n" + "".join(f"{name},{k},0,0\n" for k in range(5) for name in "abc"))
    for track in read_tracks(path, rate=10):
        np.testing.assert_allclose(track.time_s, [0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        ("alt_ft", 0.3048), ("altitude(feet)", 0.3048), ("altitudeAMSL", 1), ("Altitude [m]", 1),
        ("alt_km", 1e3), ("altitude_above_seaLevel(feet)", 0.3048), ("geoaltitude", 1),
        ("height_above_takeoff(feet)", 0.3048),
    ],
)  # fmt: skip
def test_altitude_has_many_names_and_units(header: str, factor: float, tmp_path: Path) -> None:
    text = f"time,lat,lon,{header}\n" + "".join(f"{k / 10},47,8,{400 + k}\n" for k in range(5))
    track = one(tmp_path, text)
    np.testing.assert_allclose(track.positions[:, 2], factor * np.arange(5), atol=1e-3)


def test_lengths_and_speeds_have_units(tmp_path: Path) -> None:
    text = "t,x [mm],y_cm,z (ft),vx_kn,vy(km/h),vz\n" + "".join(
        f"{k},{k},{k},{k},{k},{k},{k}\n" for k in (0, 1)
    )
    track = one(tmp_path, text)
    np.testing.assert_allclose(track.positions[1], [1e-3, 1e-2, 0.3048])
    assert track.velocities is not None
    np.testing.assert_allclose(track.velocities[1], [1852 / 3600, 1 / 3.6, 1])


def geo(rows: list[tuple[float, float, float, object]]) -> str:
    return "time,lat,lon,alt\n" + "".join(f"{t},{lat:.8f},{lon:.8f},{alt}\n" for t, lat, lon, alt in rows)


def test_small_degrees_do_not_make_metres_millimetres(tmp_path: Path) -> None:
    for height, seen in (("{}.5", 1.0), ("{}500", 1.0)):  # metres, and millimetres of MAVLink
        lines = [(k, 470000000 + k, 80000000, height.format(400 + k)) for k in range(4)]
        text = "time,lat,lon,alt\n" + "".join(f"{t},{lat},{lon},{alt}\n" for t, lat, lon, alt in lines)
        track = one(tmp_path, text)
        np.testing.assert_allclose(np.diff(track.positions[:, 2]), seen, atol=1e-3)


def test_altitude_may_come_slowly_late_or_never(tmp_path: Path) -> None:
    slow = one(
        tmp_path, geo([(k / 5, 47, 8 + k * 1e-6, 400 + 0.6 * k if k % 5 == 0 else "") for k in range(25)])
    )
    np.testing.assert_allclose(slow.positions[:, 2], 0.6 * np.arange(25), atol=1e-3)
    assert any("altitude is missing in 20 rows" in warning for warning in slow.warnings)
    late = one(tmp_path, geo([(k / 10, 47, 8, 500 if k > 15 else "") for k in range(20)]))
    assert len(late) == 20
    np.testing.assert_allclose(late.positions[:, 2], 0, atol=1e-3)
    zeros = one(tmp_path, geo([(k / 10, 47, 8, 500 if k > 15 else 0) for k in range(20)]))
    np.testing.assert_allclose(zeros.positions[:, 2], 0, atol=1e-3)
    never = one(tmp_path, geo([(k / 10, 47, 8, "") for k in range(20)]))
    assert len(never) == 20
    assert "no altitude; taken as 0." in never.warnings


def test_fixes_at_zero_zero_are_none_and_each_track_has_its_own_origin(tmp_path: Path) -> None:
    lines = [
        (k / 10, 0.0 if k < 3 else 47 + k * 1e-6, 0.0 if k < 3 else 8.0, 0 if k < 3 else 400)
        for k in range(9)
    ]
    track = one(tmp_path, geo(lines))
    assert len(track) == 6
    assert track.origin == pytest.approx((47.000003, 8.0, 400))
    assert any("3 rows at latitude 0, longitude 0 left out" in warning for warning in track.warnings)
    path = tmp_path / "two.csv"
    path.write_text(
        "id,time,lat,lon,alt\n"
        + "".join(f"{n},{k},{47 + 3 * n},8,{100 * n}\n" for k in range(3) for n in (0, 1))
    )
    assert [track.origin for track in read_tracks(path)] == [(47.0, 8.0, 0.0), (50.0, 8.0, 100.0)]
    # on the equator at 0, 0 itself every fix is one
    here = one(tmp_path, geo([(k / 10, 1e-6 * k, 0.0, 1) for k in range(5)]))
    assert len(here) == 5
