"""Every format is found by its content; what is wrong with a file is said in one sentence."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.trajectory.data import Track, read_tracks
from apps.trajectory.formats import FORMATS, source
from apps.trajectory.geo import from_enu
from core.errors import DataError
from tests.apps.trajectory.ulog_file import bomb, ulog

XYZ = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [2.5, 3.0, 4.0]])
START = 1_403_715_524_907_143_168
NS = [START, START + 5_000_001, START + 10_000_003]


def one(tmp_path: Path, text: str | bytes, name: str = "log.csv", **options: object) -> Track:
    """The only track of a file with this content."""
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (track,) = read_tracks(path, **options)  # type: ignore[arg-type]
    return track


def rows(times: list, values: np.ndarray, separator: str = ",") -> str:
    return "".join(
        separator.join([str(t), *(repr(float(v)) for v in row)]) + "\n"
        for t, row in zip(times, values, strict=True)
    )


POSE = np.concatenate([XYZ, np.tile([0.0, 0, 0, 1], (3, 1))], 1)
LONG = np.concatenate([POSE, 10 + XYZ, np.zeros((3, 6))], 1)
TEXTS = {
    "tum": "# timestamp tx ty tz qx qy qz qw\n" + rows([0.0, 0.1, 0.2], POSE, " "),
    "tum with prose above": "# made by a robot\n# eight words that are no names at all\n"
    + rows([0.0, 0.1, 0.2], POSE, " "),
    "tum with trailing blanks": rows([0.0, 0.1, 0.2], POSE, " ").replace("\n", "  \n"),
    "tum with commas": rows([0.0, 0.1, 0.2], POSE),
    "tum with commas and blanks": rows([0.0, 0.1, 0.2], POSE, ", "),
    "tum with tabs": rows([0.0, 0.1, 0.2], POSE, "\t"),
    "tum with tabs at the end": rows([0.0, 0.1, 0.2], POSE, "\t").replace("\n", "\t\t\n"),
    "tum with commas at the end": rows([0.0, 0.1, 0.2], POSE).replace("\n", ",,\n"),
    "tum with names and tabs at the end": "# timestamp\ttx\tty\ttz\tqx\tqy\tqz\tqw\n"
    + rows([0.0, 0.1, 0.2], POSE, "\t").replace("\n", "\t\t\n"),
    "tabs and an empty first cell": "note\tt\tx\ty\tz\n\t"
    + rows([0.0, 0.1, 0.2], XYZ, "\t").rstrip().replace("\n", "\n\t")
    + "\n",
    "tum without quaternion": rows([0.0, 0.1, 0.2], XYZ, " "),
    "tum with windows line ends": rows([0.0, 0.1, 0.2], POSE, " ").replace("\n", "\r\n"),
    "tum with a mark and blank lines": "\ufeff\n\n" + rows([0.0, 0.1, 0.2], POSE, " ") + "\n\n",
    "paper": "timestamp,tx,ty,tz,qx,qy,qz,qw\n" + rows([0.0, 0.1, 0.2], POSE),
    "paper without quaternion": "timestamp,tx,ty,tz\n" + rows([0.0, 0.1, 0.2], XYZ),
    "semicolons": "Time [s];X [m];Y [m];Z [m]\n" + rows([0.0, 0.1, 0.2], XYZ, ";"),
    "decimal commas": "t;x;y;z\n" + rows([0.0, 0.1, 0.2], XYZ, ";").replace(".", ","),
    "milliseconds by name": "time_ms,x,y,z\n" + rows([0, 100, 200], XYZ),
    "microseconds by step": "timestamp,x,y,z\n" + rows([5_000_000, 5_100_000, 5_200_000], XYZ),
    "iso": "time,x,y,z\n" + rows([f"2024-05-01T12:00:00.{k}00Z" for k in range(3)], XYZ),
    "rosbag": "%time,field.header.seq,field.header.stamp,field.header.frame_id,field.pose.position.x,"
    "field.pose.position.y,field.pose.position.z\n"
    + "".join(
        f"{START + k * 10**8},{k},{START + k * 10**8},map,{p[0]},{p[1]},{p[2]}\n"
        for k, p in enumerate(XYZ.tolist())
    ),
    "rosbag of two stamps": "header.stamp.secs,header.stamp.nsecs,pose.position.x,"
    "pose.position.y,pose.position.z\n"
    + "".join(f"1403715524,{k * 10**8},{p[0]},{p[1]},{p[2]}\n" for k, p in enumerate(XYZ.tolist())),
    "json lines": "".join(
        json.dumps({"t": k / 10, "id": "a", "p": p}) + "\n" for k, p in enumerate(XYZ.tolist())
    ),
    "json lines by name": "".join(
        json.dumps({"time": k / 10, "x": p[0], "y": p[1], "z": p[2]}) + "\n"
        for k, p in enumerate(XYZ.tolist())
    ),
    "json array": json.dumps([{"t": k / 10, "p": p} for k, p in enumerate(XYZ.tolist())]),
    "local north east down": "t,north,east,down\n" + rows([0.0, 0.1, 0.2], XYZ[:, [1, 0, 2]] * [1, 1, -1]),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", TEXTS)
def test_text_formats_are_found_by_content(kind: str, packed: bool, tmp_path: Path) -> None:
    data = TEXTS[kind].encode()
    found = one(tmp_path, gzip.compress(data) if packed else data, "log.txt.gz" if packed else "log.txt")
    np.testing.assert_allclose(found.time_s, [0, 0.1, 0.2], atol=1e-9)
    np.testing.assert_allclose(found.positions, XYZ, atol=1e-12)
    assert found.name.split("/")[0] == "log"


@pytest.mark.parametrize("header", ["", "#timestamp [ns]," + ",".join("abcdefg") + "\n"])
@pytest.mark.parametrize("columns", [8, 17])
def test_euroc_keeps_every_nanosecond(columns: int, header: str, tmp_path: Path) -> None:
    found = one(tmp_path, header + rows(NS, LONG[:, : columns - 1]), "data.csv", format=None)
    assert found.start_ns == START
    np.testing.assert_array_equal(np.round(found.time_s * 1e9), [0, 5_000_001, 10_000_003])
    np.testing.assert_array_equal(found.positions, XYZ)
    if columns == 17:
        np.testing.assert_array_equal(found.velocities, 10 + XYZ)


def test_decimal_seconds_keep_every_nanosecond(tmp_path: Path) -> None:
    found = one(tmp_path, rows([f"{ns // 10**9}.{ns % 10**9:09d}" for ns in NS], POSE, " "))
    assert found.start_ns == START
    np.testing.assert_array_equal(np.round(found.time_s * 1e9), [0, 5_000_001, 10_000_003])


def test_nanoseconds_in_a_file_of_seconds_are_seen(tmp_path: Path) -> None:
    found = one(tmp_path, rows(NS, POSE, " "), "log.tum", format="tum")
    assert found.time_s[-1] == pytest.approx(0.010000003)
    assert "read as ns, not s" in found.warnings[0]


def kitti(positions: np.ndarray) -> str:
    poses = np.concatenate([np.tile(np.eye(3), (len(positions), 1, 1)), positions[:, :, None]], 2)
    return "".join(" ".join(map(repr, row)) + "\n" for row in poses.reshape(-1, 12).tolist())


def test_kitti_takes_its_times_from_a_file_or_a_rate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"give --read times=FILE or rate=10"):
        one(tmp_path, kitti(XYZ), "00.txt")
    found = one(tmp_path, kitti(XYZ), "00.txt", rate=10)
    np.testing.assert_allclose(found.time_s, [0, 0.1, 0.2])
    assert found.start_ns is None
    np.testing.assert_array_equal(found.positions, XYZ)
    (tmp_path / "clock.txt").write_text("0.0\n0.2\n0.4\n")
    found = one(tmp_path, kitti(XYZ), "00.txt", times=tmp_path / "clock.txt", frame="camera")
    np.testing.assert_allclose(found.time_s, [0, 0.2, 0.4])
    np.testing.assert_array_equal(found.positions, np.stack([XYZ[:, 0], XYZ[:, 2], -XYZ[:, 1]], 1))
    (tmp_path / "01_times.txt").write_text("0.0\n0.2\n")
    with pytest.raises(DataError, match=r"3 poses, but .*01_times\.txt has 2 times"):
        one(tmp_path, kitti(XYZ), "01_poses.txt")


def test_columns_may_be_named_by_the_caller(tmp_path: Path) -> None:
    text = "stamp_of_day,a,b,c,d\n" + rows([0, 100, 200], np.concatenate([XYZ, 0 * XYZ[:, :1]], 1))
    mapping = {"t": "stamp_of_day", "x": "a", "y": "b", "z": "c"}
    found = one(tmp_path, text, columns=mapping, time_unit="ms")
    np.testing.assert_allclose(found.time_s, [0, 0.1, 0.2])
    np.testing.assert_array_equal(found.positions, XYZ)
    bare = one(tmp_path, rows([0, 0.1, 0.2], LONG), columns={"t": "0", "x": "8", "y": "9", "z": "10"})
    np.testing.assert_array_equal(bare.positions, 10 + XYZ)
    with pytest.raises(DataError, match=r"no column 'e' for x; the file has stamp_of_day, a, b, c, d"):
        one(tmp_path, text, columns={**mapping, "x": "e"})


def test_two_columns_of_position_are_a_track_in_the_plane(tmp_path: Path) -> None:
    assert one(tmp_path, "t,x,y\n" + rows([0, 0.1, 0.2], XYZ[:, :2])).positions.shape == (3, 2)


def test_all_ids_and_words_together_tell_tracks_apart(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    lines = [
        f"{kind},{traj},{t / 10},{traj},{t},0.5\n"
        for kind in ("line", "circle")
        for traj in (1, 2)
        for t in range(3)
    ]
    path.write_text("kind,traj,timestamp,tx,ty,tz\n" + "".join(lines))
    found = read_tracks(path)
    assert [track.name for track in found] == ["many/line/1", "many/line/2", "many/circle/1", "many/circle/2"]
    assert all(len(track) == 3 for track in found)
    assert [track.name for track in read_tracks(path, group=["traj"])] == ["many/1", "many/2"]
    with pytest.raises(DataError, match="no column 'who' to group by"):
        read_tracks(path, group=["who"])


def test_geographic_columns_become_local_metres(tmp_path: Path) -> None:
    enu = np.array([[0.0, 0, 0], [10, 20, 5], [30, -40, 10]])
    places = from_enu(enu, (47.5, 8.5, 400.0))
    found = one(tmp_path, "time,latitude,longitude,altitude\n" + rows([0, 1, 2], places))
    assert found.origin == pytest.approx((47.5, 8.5, 400.0), abs=1e-9)
    np.testing.assert_allclose(found.positions, enu, atol=1e-6)
    scaled = np.round(places * [1e7, 1e7, 1e3])
    found = one(tmp_path, "time,lat,lon,alt\n" + rows([0, 1, 2], scaled))
    np.testing.assert_allclose(found.positions, enu, atol=0.02)
    with pytest.raises(DataError, match=r"line 2: latitude 147\.5.* swapped"):
        one(tmp_path, "time,lat,lon,alt\n0,147.5,8.5,0\n1,147.5,8.5,0\n")


def test_ned_is_turned_when_asked(tmp_path: Path) -> None:
    text = "t,x,y,z,vx,vy,vz\n" + rows([0, 0.1, 0.2], np.concatenate([XYZ, 10 * XYZ], 1))
    found = one(tmp_path, text, frame="ned")
    expected = np.stack([XYZ[:, 1], XYZ[:, 0], -XYZ[:, 2]], 1)
    np.testing.assert_array_equal(found.positions, expected)
    np.testing.assert_array_equal(found.velocities, 10 * expected)


@pytest.mark.parametrize("clock", [[0.0, 0.1, 0.2], pd.to_datetime(NS)])
def test_parquet(clock: object, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pd.DataFrame({"time": clock, "x": XYZ[:, 0], "y": XYZ[:, 1], "z": XYZ[:, 2]}).to_parquet(path)
    (found,) = read_tracks(path)
    np.testing.assert_array_equal(found.positions, XYZ)
    if not isinstance(clock, list):
        assert found.start_ns == START
        np.testing.assert_array_equal(np.round(found.time_s * 1e9), [0, 5_000_001, 10_000_003])


@pytest.mark.parametrize("packed", [False, True])
def test_ulog_becomes_east_north_up_without_invalid_samples(packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("pyulog")
    ned = np.concatenate([XYZ, [[np.nan, 0, 0]], [[3.0, 3, 3]]]).astype(np.float32)
    data = ulog(10**6 + 20_000 * np.arange(5), ned, 2 * ned, np.array([1, 1, 1, 1, 0]))
    found = one(tmp_path, gzip.compress(data) if packed else data, "flight.ulg")
    np.testing.assert_allclose(found.time_s, [0, 0.02, 0.04])
    expected = np.stack([XYZ[:, 1], XYZ[:, 0], -XYZ[:, 2]], 1)
    np.testing.assert_array_equal(found.positions, expected)
    np.testing.assert_array_equal(found.velocities, 2 * expected)


def test_what_is_repaired_is_said(tmp_path: Path) -> None:
    text = "t,x,y,z\n0.2,2,0,0\n0.0,0,0,0\n0.1,9,0,0\n0.1,1,0,0\n0.3,nan,0,0\n"
    found = one(tmp_path, text)
    np.testing.assert_array_equal(found.positions[:, 0], [0, 1, 2])
    assert found.warnings == (
        "1 row without a finite time and position left out.",
        "time goes back 1 time; rows are sorted.",
        "1 repeated stamp; the last row of each is kept.",
    )


def test_millimetres_are_suspected(tmp_path: Path) -> None:
    text = "t,x,y,z\n" + "".join(f"{k / 10},{200 * k},0,1500\n" for k in range(10))
    assert "millimetres?" in one(tmp_path, text).warnings[0]


WRONG = {
    "empty": ("", "the file is empty"),
    "only blanks": ("  \n\n", "the file is empty"),
    "only comments": ("# a\n# b\n", "comments and no data"),
    "header only": ("t,x,y,z\n", "a header and no data"),
    "one sample": ("t,x,y,z\n0,1,2,3\n", "a single sample"),
    "no number at all": ("t,x,y,z\n0,nan,2,3\n0.1,nan,2,3\n", "no row with a time and a finite position"),
    "no time": ("a,x,y,z\n0,1,2,3\n1,1,2,3\n", "no column of time; name one by --read columns=t=NAME"),
    "no position": ("t,a,b\n0,1,2\n1,1,2\n", "no columns of position"),
    "a word": ("t,x,y,z\n0,1,2,3\n# note\n0.1,1,oops,3\n", "line 4: y is 'oops', not a number"),
    "a word for a time": ("t,x,y,z\n0,1,2,3\nnoon,1,2,3\n", "line 3: t is 'noon', not a time"),
    "a longer row": ("t,x,y,z\n0,1,2,3\n0.1,1,2,3,4\n", "expected 4 fields in line 3, saw 5"),
    "two columns": ("0 1\n1 2\n", "2 columns without names"),
    "binary": ("a\0b", "a binary file"),
    "far away": ("t,x,y,z\n0,1e300,2,3\n0.1,1,2,3\n", "position of 1e+300 m"),
    "json of another kind": ('{"a": 1}\n', "no column of time"),
    "broken json": ('{"t": 0, "p": [1, 2, 3]}\n{"t": 0.1,\n', "line 2: not JSON"),
    "json words": ('{"t": 0, "p": [1, {}, 3]}\n', "line 1: p is {}, not a number"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_told_in_one_sentence(kind: str, tmp_path: Path) -> None:
    text, words = WRONG[kind]
    with pytest.raises(DataError) as error:
        one(tmp_path, text)
    assert words in str(error.value)
    assert "log.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_tracks(tmp_path / "none.csv")
    with pytest.raises(DataError, match="a folder, not a file"):
        read_tracks(tmp_path)
    with pytest.raises(DataError, match=r"no format 'xml'; choose tum"):
        one(tmp_path, TEXTS["tum"], format="xml")


def test_damaged_and_hostile_archives_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(TEXTS["tum"].encode() * 50)
    with pytest.raises(DataError, match="cut short"):
        one(tmp_path, packed[:-20], "log.gz")
    with pytest.raises(DataError, match=r"damaged gzip|cut short"):
        one(tmp_path, packed[:30] + b"\xff" * 30 + packed[60:], "log.gz")
    monkeypatch.setattr(source, "MAX_BYTES", 8 * 2**20)
    with pytest.raises(DataError, match=r"unpack to more than 8\.39 MB"):
        one(tmp_path, bomb(64 * 2**20), "log.gz")


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    with path.open("wb") as file:
        file.write(b"t,x,y,z\n")
        file.truncate(2**30)  # a sparse gigabyte
    with pytest.raises(DataError, match="line 2: longer than 1 MB"):
        read_tracks(path)


WORDS = (
    "t,x,y,z|lat,lon,alt|time,x,y|timestamp|stamp.secs|id|a|e|nan|inf|1e400|0|1.5|-|,|;|:|\n|\n| |\t|\r|"
    '#|%|5e-324|\'|"|{|}|[|]|{"t":1,"p":[1,2,3]}|\x00|\ufeff|\u0663|2024-01-01|1403715524907143168|1403715524.907143168|'
    "99999999999999999999"
).split("|")
FRAGMENTS = st.lists(st.sampled_from(WORDS), max_size=60).map(lambda parts: "".join(parts).encode())
STARTS = st.sampled_from(
    [b"", b"ULog\x01\x12\x35\x01", b"PAR1", b"\x1f\x8b\x08\x00", b"[", b"t,x,y,z\n0,1,2,3\n"]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=STARTS, body=st.binary(max_size=300) | FRAGMENTS, kind=st.none() | st.sampled_from(FORMATS))
def test_any_bytes_give_tracks_or_a_data_error(
    start: bytes, body: bytes, kind: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "junk"
    path.write_bytes(start + body)
    for track in tracks_or_refusal(path, kind):
        assert np.isfinite(track.positions).all()
        assert (np.diff(track.time_s) > 0).all()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), length=st.floats(0.02, 1)
)
def test_a_damaged_ulog_is_read_or_refused(places: list, length: float, tmp_path: Path) -> None:
    pytest.importorskip("pyulog")
    data = bytearray(ulog(10**6 + 20_000 * np.arange(3), XYZ, XYZ, np.ones(3)))
    for place, value in places:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "junk.ulg"
    path.write_bytes(data[: int(length * len(data))])
    for track in tracks_or_refusal(path, None):
        assert np.isfinite(track.positions).all()


def tracks_or_refusal(path: Path, kind: str | None) -> list[Track]:
    """Tracks, or none where a DataError of one line came."""
    try:
        return read_tracks(path, format=kind)
    except DataError as refusal:
        if "\n" in str(refusal):
            raise
        return []
