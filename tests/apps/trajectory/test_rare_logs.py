"""Rarer ends of the readers: the gate's metres, resets of places, clocks that lose weeks or hours, bags."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.trajectory.data import read_tracks, resample
from apps.trajectory.dense import of_the_path
from apps.trajectory.formats import read
from apps.trajectory.formats.options import Options
from apps.trajectory.geo import from_enu
from apps.trajectory.predict import predict
from apps.trajectory.track import Track
from core.errors import DataError
from tests.apps.trajectory.test_formats import one, rows
from tests.apps.trajectory.ulog_file import topics_log

TENTHS = (np.arange(100) / 10).round(3)
WAY = np.stack([6 * TENTHS, 2 * TENTHS, 30 + 0 * TENTHS], 1)
WEEKS = 1024 * 604_800


def test_the_gate_may_be_off_or_so_many_metres(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    off = WAY.copy()
    off[50] += [3, 0, 0]
    off[70] += [30, 0, 0]
    path.write_text("t,x,y,z\n" + rows(TENTHS.tolist(), off))
    left = {
        gate: len(read(path, Options(gate=gate))[0]) for gate in (True, "on", 100.0, 10.0, 2, "off", False)
    }
    assert left == {True: 98, 100.0: 100, 10.0: 99, 2: 98, False: 100, "on": 98, "off": 100}
    for wrong in ("much", -1.0, 0.0, float("nan")):
        with pytest.raises(DataError, match="gate is on, off or a"):
            Options(gate=wrong)


def test_a_receiver_that_had_lost_1024_weeks(tmp_path: Path) -> None:
    begin = 1_767_225_600
    early = [begin + t - (WEEKS if k < 40 else 0) for k, t in enumerate(TENTHS.tolist())]
    track = one(tmp_path, "time,x,y,z\n" + rows(early, WAY))
    np.testing.assert_allclose(np.diff(track.time_s), 0.1, atol=1e-6)
    assert track.utc(0.0) == "2026-01-01T00:00:00.000000Z"
    assert any("1024 weeks too early" in told for told in track.warnings)
    late = [begin + t - (WEEKS if k >= 40 else 0) for k, t in enumerate(TENTHS.tolist())]
    track = one(tmp_path, "time,x,y,z\n" + rows(late, WAY))
    np.testing.assert_allclose(np.diff(track.time_s), 0.1, atol=1e-6)
    assert any("count of weeks is full" in told for told in track.warnings)


def test_summer_time_ends_without_a_leap(tmp_path: Path) -> None:
    begin = datetime(2026, 10, 25, 2, 59, 55)
    local = [begin + timedelta(seconds=t) - timedelta(hours=t >= 5) for t in TENTHS.tolist()]
    stamps = [moment.isoformat(timespec="milliseconds") for moment in local]
    text = "time,x,y,z\n" + "".join(
        f"{stamp},{x},{y},{z}\n" for stamp, (x, y, z) in zip(stamps, WAY.tolist(), strict=True)
    )
    track = one(tmp_path, text)
    assert len(track) == 100
    np.testing.assert_allclose(np.diff(track.time_s), 0.1, atol=1e-6)
    assert any("goes back an hour" in told for told in track.warnings)
    assert predict(track).anchor[0] == pytest.approx(59.4)


def test_places_that_are_none_are_left_out_and_wild_ones_do_not_set_the_unit(tmp_path: Path) -> None:
    lat, lon = 47 + TENTHS * 1e-5, 8 + 0 * TENTHS
    lat[[3, 40]], lon[[3, 40]] = 91, 181  # what AIS sends when it does not know
    lat[60] = 2000
    track = one(
        tmp_path, "time,lat,lon,alt\n" + rows(TENTHS.tolist(), np.stack([lat, lon, 400 + 0 * lat], 1))
    )
    assert len(track) == 97
    assert any("3 rows with a latitude or longitude that is no place" in told for told in track.warnings)
    np.testing.assert_allclose(np.ptp(track.positions[:, 1]), 11, atol=0.1)


def place_topic(**more: tuple[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    lat, lon = 47 + TENTHS * 5.4e-5, 8 + TENTHS * 2e-5
    return {
        "timestamp": ("Q", (10**6 + TENTHS * 1e6).astype(np.int64)),
        "lat": ("d", lat),
        "lon": ("d", lon),
        "alt": ("f", 400 + 3 * TENTHS),
        **more,
    }


@pytest.mark.parametrize("told", [True, False])
def test_resets_of_places_in_a_ulog_are_taken_out(told: bool, tmp_path: Path) -> None:
    pytest.importorskip("pyulog")
    count = np.where(np.arange(100) < 80, 255, 0)  # it rolls over
    more: dict[str, Any] = {"lat_lon_reset_counter": ("B", count)}
    if told:
        more |= {"delta_lat_lon[0]": ("d", 0 * TENTHS + 2e-4), "delta_lat_lon[1]": ("d", 0 * TENTHS - 3e-4)}
    topic = place_topic(**more)
    topic["lat"] = ("d", topic["lat"][1] + np.where(np.arange(100) < 80, 0, 2e-4))
    topic["lon"] = ("d", topic["lon"][1] + np.where(np.arange(100) < 80, 0, -3e-4))
    path = tmp_path / "a.ulg"
    path.write_bytes(topics_log({"vehicle_global_position": topic}))
    (track,) = read_tracks(path)
    assert any("lat_lon_reset_counter" in words for words in track.warnings)
    steps = np.diff(track.positions[:, :2], axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[0], (99, 1)), atol=1e-2)
    assert len(track) == 100


def test_a_ulog_of_a_receiver_alone_is_read_with_its_date(tmp_path: Path) -> None:
    pytest.importorskip("pyulog")
    fields = place_topic()
    utc = 1_767_225_600 * 10**6 + (TENTHS * 1e6).astype(np.int64)
    topic = {
        "timestamp": fields["timestamp"],
        "time_utc_usec": ("Q", utc),
        "lat": ("i", np.round(fields["lat"][1] * 1e7).astype(np.int64)),
        "lon": ("i", np.round(fields["lon"][1] * 1e7).astype(np.int64)),
        "alt": ("i", np.round(fields["alt"][1] * 1e3).astype(np.int64)),
        "fix_type": ("B", np.where(np.arange(100) < 5, 0, 3)),
    }
    path = tmp_path / "a.ulg"
    path.write_bytes(topics_log({"vehicle_gps_position": topic}))
    (track,) = read_tracks(path)
    assert len(track) == 95
    assert track.utc(0.0) == "2026-01-01T00:00:00.500000Z"
    np.testing.assert_allclose(np.diff(track.positions[:, 2]), 0.3, atol=1e-2)
    np.testing.assert_allclose(np.diff(track.positions[:, 1]) / 0.1, 6.0, atol=0.2)


def test_a_bag_of_mcap_is_read_by_the_stamps_of_its_messages(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    kinds: Any = store.types
    stamp, header, point = (
        kinds[name]
        for name in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", "geometry_msgs/msg/Point")
    )
    pose, turned = kinds["geometry_msgs/msg/Pose"], kinds["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    many = "geometry_msgs/msg/PoseArray"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        link = writer.add_connection("/tracks", many, typestore=store)
        for k, t in enumerate(TENTHS[:40]):
            place = pose(point(2 * t, -t, 0.5 * t), turned)
            empty = k == 7
            message = kinds[many](
                header(stamp(100 + int(t), round(t % 1 * 1e9)), "map"), [] if empty else [place]
            )
            writer.write(link, int(1e9 * (5000 + t * t)), store.serialize_cdr(message, many))
    (path,) = (tmp_path / "bag").glob("*.mcap")
    (track,) = read_tracks(path)
    assert len(track) == 39
    np.testing.assert_allclose(track.positions[-1] - track.positions[0], [7.8, -3.9, 1.95], atol=1e-6)
    assert track.time_s[-1] == pytest.approx(3.9)


def test_velocities_of_a_file_curve_the_path_between_its_samples() -> None:
    t = np.cumsum(np.random.default_rng(0).uniform(0.06, 0.14, 80))
    t -= t[0]
    path = np.stack([np.cos(3 * t), np.sin(3 * t), 0 * t], 1) * 4
    rate = np.stack([-np.sin(3 * t), np.cos(3 * t), 0 * t], 1) * 12
    grid = resample(Track("a", "a", t, None, path), 0.1, follow=True)[0]
    truth = 4 * np.stack([np.cos(3 * (at := 0.1 * np.arange(len(grid)))), np.sin(3 * at), 0 * at], 1)
    errors = {}
    for name, velocities in (("none", None), ("its own", rate), ("another frame's", rate[:, [1, 0, 2]])):
        (found,) = resample(Track("a", "a", t, None, path, velocities), 0.1, follow=True)
        errors[name] = np.linalg.norm(found.positions - truth, axis=1).mean()
    assert errors["its own"] < 0.02 * errors["none"]
    assert errors["another frame's"] == errors["none"]
    (plain,) = resample(Track("a", "a", t, None, path, rate), 0.1)
    at = np.minimum(at, t[-1])
    lines = np.stack([np.interp(at, t, axis) for axis in path.T], 1)  # the protocol of published figures
    np.testing.assert_array_equal(plain.positions, lines)


@pytest.mark.parametrize("unit", [1.0, 1852 / 3600, 1 / 3.6])
def test_speed_and_course_of_a_ship_curve_its_path(unit: float, tmp_path: Path) -> None:
    t = np.cumsum(np.random.default_rng(0).uniform(4, 8, 60)).round(1)
    east, north = 600 * np.sin(t / 60), 600 * np.cos(t / 60)  # clockwise at 10 m/s
    lat, lon, _ = from_enu(np.stack([east, north, 0 * t], 1), (54.0, 10.0, 0.0)).T
    course = (90 + np.degrees(t / 60)) % 360
    text = "".join(
        f"{a},{b:.9f},{c:.9f},{10 / unit:.4f},{d:.3f}\n"
        for a, b, c, d in zip(t, lat, lon, course, strict=True)
    )
    track = one(tmp_path, "time,LAT,LON,SOG,COG\n" + text)
    assert track.velocities is not None
    np.testing.assert_allclose(np.linalg.norm(track.velocities, axis=1), 10, rtol=1e-3)
    curved = resample(track, 0.1, follow=True)[0]
    straight = resample(Track("a", "a", track.time_s, None, track.positions), 0.1, follow=True)[0]
    at = t[0] + curved.dt * np.arange(len(curved))
    truth = np.stack([600 * np.sin(at / 60), 600 * np.cos(at / 60)], 1)
    truth -= truth[0]
    errors = [np.linalg.norm(found.positions[:, :2] - truth, axis=1).mean() for found in (curved, straight)]
    assert errors[0] < 0.5 * errors[1]


def test_speeds_that_lead_elsewhere_are_not_believed(tmp_path: Path) -> None:
    table = np.stack([47 + TENTHS * 5e-5, 8 + 0 * TENTHS, 0 * TENTHS + 3, 0 * TENTHS + 200], 1)
    track = one(tmp_path, "time,lat,lon,speed,heading\n" + rows(TENTHS.tolist(), table))
    assert of_the_path(track.time_s, track.positions, track.velocities) is None


def tlog(path: Path, messages: list[tuple[float, Any]]) -> Path:
    """A telemetry log of messages with the seconds at which they were received."""
    dialect = pytest.importorskip("pymavlink.dialects.v20.ardupilotmega")
    sender = dialect.MAVLink(None, srcSystem=7, srcComponent=1)
    begin = 1_770_000_000 * 10**6
    parts = [
        (begin + round(at * 1e6)).to_bytes(8, "big") + bytes(message.pack(sender)) for at, message in messages
    ]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(("frame", "order"), [(1, "ned"), (20, "ned"), (4, "enu"), (21, "enu")])
def test_odometry_of_a_tlog_is_read_and_its_counted_leaps_are_taken_out(
    frame: int, order: str, tmp_path: Path
) -> None:
    dialect = pytest.importorskip("pymavlink.dialects.v20.ardupilotmega")
    leap, nothing = np.array([28.0, -9.0, 1.5]), [float("nan")] * 21
    seen = WAY + np.where(TENTHS[:, None] < 6, leap, 0)
    table = seen if order == "enu" else np.stack([seen[:, 1], seen[:, 0], -seen[:, 2]], 1)
    messages = [
        (
            float(t) + 0.02,
            dialect.MAVLink_odometry_message(
                round(t * 1e6), frame, 8, *place, [1, 0, 0, 0], 0, 0, 0, 0, 0, 0, nothing, nothing,
                255 if t < 6 else 0,
            ),
        )
        for t, place in zip(TENTHS, table.tolist(), strict=True)
    ]  # fmt: skip
    (track,) = read_tracks(tlog(tmp_path / "a.tlog", messages))
    np.testing.assert_allclose(track.positions, WAY, atol=1e-4)
    np.testing.assert_allclose(track.time_s, TENTHS, atol=1e-6)
    assert any("reset (ODOMETRY) at 6.000 s moved it by -28, 9, -1.5 m" in told for told in track.warnings)


def test_a_local_position_leaps_where_the_odometry_beside_it_counts_a_reset(tmp_path: Path) -> None:
    dialect = pytest.importorskip("pymavlink.dialects.v20.ardupilotmega")
    nothing, messages = [float("nan")] * 21, []
    for t, (x, y, z) in zip(TENTHS.tolist(), WAY.tolist(), strict=True):
        east = x + 3.0 * (t < 4)  # less than what the gate of jumps would notice at this speed
        local = dialect.MAVLink_local_position_ned_message(round(t * 1e3), y, east, -z, 0, 0, 0)
        counts = dialect.MAVLink_odometry_message(
            round(t * 1e6), 1, 8, 0, 0, 0, [1, 0, 0, 0], 0, 0, 0, 0, 0, 0, nothing, nothing, int(t >= 4)
        )
        messages += [(t + 0.01, local), (t + 0.03, counts)]
    (track,) = read_tracks(tlog(tmp_path / "a.tlog", messages))
    np.testing.assert_allclose(track.positions, WAY, atol=1e-4)
    assert any("reset (ODOMETRY)" in told for told in track.warnings)
