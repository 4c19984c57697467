"""Files that contradict themselves: headers that tell too much, columns of words, places of a map."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from core.errors import ConfigError, DataError
from tests.vision.pointcloud.test_bad_input import las
from tests.vision.pointcloud.test_data import ROWS, literal_lzf, pcd_header
from vision.pointcloud.answers import draw_above
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.convert import write_cloud
from vision.pointcloud.data import read_cloud
from vision.pointcloud.evaluation import frame_of
from vision.pointcloud.examples import Example, read_annotations
from vision.pointcloud.formats.kitti import CAMERA
from vision.pointcloud.formats.labels import Truth, read_kitti_labels, read_table_labels
from vision.pointcloud.ground import Plane
from vision.pointcloud.labelled import about_labels
from vision.pointcloud.live import files_after
from vision.pointcloud.own import as_scan
from vision.pointcloud.poses import read_poses
from vision.pointcloud.predict import Boxes
from vision.pointcloud.reading import Reading, as_said
from vision.pointcloud.scoring import read_objects, read_rows, score
from vision.pointcloud.synth.sensors import sensor

TEXT = "\n".join(" ".join(f"{value:.5f}" for value in row) for row in ROWS).encode()
PACKED = literal_lzf(ROWS.T.tobytes())
XYZ = b"property float x\nproperty float y\nproperty float z\n"


def stored(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    """The bytes that numpy writes."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def columns(write: Callable[..., None], **values: object) -> bytes:
    """The bytes that pyarrow writes."""
    file = io.BytesIO()
    write(pa.table(values), file)
    return file.getvalue()


def ply(order: bytes, properties: bytes, body: bytes, remark: bytes = b"") -> bytes:
    head = b"ply\nformat " + order + b" 1.0\n" + remark + b"element vertex 2\n"
    return head + properties + b"end_header\n" + body


THREE = [1.0, 2.0, 3.0]
REFUSED: dict[str, tuple[bytes, str]] = {
    "rows that end early.pcd": (
        pcd_header("ascii") + TEXT[: TEXT.rindex(b"\n", 0, 9000)],
        "400 points are told",
    ),
    "fewer columns.pcd": (
        pcd_header("binary_compressed", 500) + struct.pack("<II", len(PACKED), ROWS.nbytes) + PACKED,
        "500 points are told, 400 follow",
    ),
    "other names.pcd": (pcd_header("binary", fields="a b c d") + ROWS.tobytes(), "there are a, b, c, d"),
    "lists.ply": (ply(b"ascii", b"property list uchar int k\n" + XYZ, b"1 9 1 2 3\n1 9 4 5 6\n"), "lists"),
    "in the header.las": (
        las(2, b"\1" * 40)[:96] + struct.pack("<I", 100) + las(2, b"\1" * 40)[100:],
        "byte 100",
    ),
    "other byte order.bin": (ROWS.astype(">f4").tobytes(), "no metres"),
    "other names.csv": (b"a,b,c\n1,2,3\n", "there are a, b, c"),
    "hole.csv": (b"x,y,z\n1,,3\n4,5,6\n", "words among"),
    "words.npz": (stored(np.savez, points=ROWS, ring=np.array(["a"] * 400)), "ring holds no real numbers"),
    "complex.npz": (stored(np.savez, points=ROWS, time=np.ones(400, complex)), "time holds no real numbers"),
    "words.parquet": (columns(parquet.write_table, x=["a"] * 3, y=THREE, z=THREE), "x holds no real"),
    "dates.parquet": (
        columns(parquet.write_table, x=pa.array([1, 2, 3], pa.timestamp("s")), y=THREE, z=THREE),
        "x holds",
    ),
    "nothing.feather": (columns(feather.write_feather, x=pa.nulls(3), y=THREE, z=THREE), "x holds no real"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_contradicts_itself_is_named(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words) as told:
        read_cloud(tmp_path / name)
    assert name in str(told.value)


def test_a_few_bytes_of_parquet_do_not_become_gigabytes(tmp_path: Path) -> None:
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int8)), pa.array([1.0]))
    parquet.write_table(pa.table({axis: same for axis in "xyz"}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match="3,000,000 rows are told"):
        read_cloud(tmp_path / "a.parquet")


READ: dict[str, bytes] = {
    "mark.csv": "\ufeffx,y,z\n1,2,3\n4,5,6\n".encode(),
    "quoted.csv": b'"x","y","z"\n1,2,3\n4,5,6\n',
    "ends of rows.csv": b"x,y,z,\n1,2,3,\n4,5,6,\n",
    "remark.ply": ply(b"ascii", XYZ, b"1 2 3\n4 5 6\n", b"comment end_header comes soon\n"),
    "dates.parquet": columns(
        parquet.write_table,
        x=[1.0, 4.0],
        y=[2.0, 5.0],
        z=[3.0, 6.0],
        time=pa.array([7, 8], pa.timestamp("s")),
    ),
}


@pytest.mark.parametrize("name", sorted(READ))
def test_what_other_programs_write_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(READ[name])
    cloud = read_cloud(tmp_path / name)
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 6]])
    assert cloud.time is None or cloud.time.tolist() == [0.0, 1.0]


MAP = np.array([500_000.0, 4_000_000.0, 30.0])


@pytest.fixture(scope="module")
def mapped() -> Cloud:
    """Places around a point of a map."""
    return Cloud(ROWS[:, :3], ROWS[:, 3], name="map", origin=MAP)


@pytest.mark.parametrize("ending", [".pcd", ".ply", ".npy", ".npz", ".csv", ".parquet"])
def test_places_of_a_map_keep_their_millimetres(ending: str, mapped: Cloud, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    write_cloud(mapped, path)
    again = read_cloud(path)
    assert again.origin is not None
    np.testing.assert_allclose(again.points + again.origin, ROWS[:, :3] + MAP, atol=1.1e-3)


def test_rows_of_float32_refuse_places_of_a_map(mapped: Cloud, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"take \.pcd"):
        write_cloud(mapped, tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_boxes_of_a_map_lie_on_their_points(mapped: Cloud) -> None:
    box = np.array([[3.0, 4.0, 0.0, 4.2, 1.8, 1.6, 0.3]])
    there = box + np.array([*MAP, 0, 0, 0, 0])
    found = Boxes(there, np.ones(1), ("Car",), np.ones(1, int), Plane(0, 0, -2, 1))
    drawn = [line.get_xydata().mean(0) for line in draw_above(mapped, found, truth=there).axes[0].lines]  # pyright: ignore[reportAttributeAccessIssue]
    assert np.abs(np.array(drawn) - [3, 4]).max() < 3
    inside = about_labels(Cloud(ROWS[:, :3], name="near"), Truth(box, ("Car",)))["points"]
    assert about_labels(mapped, Truth(there, ("Car",)))["points"] == inside
    assert inside[0] > 0


def test_labels_of_a_map_are_scored_where_their_points_are(mapped: Cloud) -> None:
    box = np.array([[3.0, 4.0, 0.0, 4.2, 1.8, 1.6, 0.3]])
    there = box + np.array([*MAP, 0, 0, 0, 0])
    found = Boxes(there, np.ones(1), ("Car",), np.ones(1, int), Plane(0, 0, -2, 1))
    frame = frame_of(Example("map", mapped, Truth(there, ("Car",))), found, "Car", False)
    np.testing.assert_allclose(frame.truth, box, atol=1e-9)
    np.testing.assert_allclose(frame.boxes, box, atol=1e-9)


def test_rings_that_are_no_numbers_are_ring_0_of_own_scans() -> None:
    ring = np.where(np.arange(len(ROWS)) % 2, np.nan, 3.0)
    cloud = Cloud(ROWS[:, :3], ring=ring, name="own", origin=MAP)
    box = np.array([[3.0, 4.0, 0.0, 4.2, 1.8, 1.6, 0.3]]) + np.array([*MAP, 0, 0, 0, 0])
    scan, left_out = as_scan(Example("own", cloud, Truth(box, ("Car",))))
    assert left_out == 0
    assert scan.ring.tolist() == [3, 0] * (len(ROWS) // 2)
    assert scan.counts[0] == (scan.owner == 0).sum() > 0


def test_axes_and_unit_of_a_map_turn_its_origin_too(mapped: Cloud) -> None:
    read = as_said(mapped, Reading("-yxz", 0.5))
    assert read.origin is not None
    wanted = (mapped.points + MAP)[:, [1, 0, 2]] * [-0.5, 0.5, 0.5]
    np.testing.assert_allclose(read.points + read.origin, wanted, atol=1e-4)


def test_annotations_with_holes_are_named(tmp_path: Path) -> None:
    names = ["qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m"]
    for value in (None, float("nan")):
        table = {name: pa.array([1.0], pa.float64()) for name in names} | {
            "timestamp_ns": [5],
            "category": ["BUS"],
        }
        feather.write_feather(
            pa.table(table | {"ty_m": pa.array([value], pa.float64())}), str(tmp_path / "a.feather")
        )
        with pytest.raises(DataError, match=r"a\.feather"):
            read_annotations(tmp_path / "a.feather", "5")


def test_a_watched_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="watched"):
        next(files_after(set(), tmp_path / "gone", read_cloud, lambda: False))


BOX = "4,2,1.5,10,0,0,0"
HEAD = "category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw"


def test_a_mark_before_labels_is_none_of_their_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffCar 0 0 0 1 2 3 4 1.5 2 4 1 1.7 20 0\n")
    assert read_kitti_labels(tmp_path / "a.txt", CAMERA).names == ("Car",)
    (tmp_path / "a.csv").write_text(f"\ufeff{HEAD}\nCar,{BOX}\n")
    assert read_table_labels(tmp_path / "a.csv").names == ("Car",)


def test_a_table_of_something_else_is_not_a_scan_without_objects(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,age\n")
    with pytest.raises(DataError, match="no column category"):
        read_table_labels(tmp_path / "a.csv")


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
@pytest.mark.parametrize("column", ["score", "id", "num_interior_pts"])
def test_detections_with_numbers_that_are_none_are_named(column: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEAD},{column}\nCar,{BOX},{value}\n")
    if value == "1e300" and column != "id":
        assert len(read_rows(tmp_path / "a.csv").boxes) == 1
        return
    with pytest.raises(DataError, match="not finite"):
        read_rows(tmp_path / "a.csv")


def test_kitti_text_with_numbers_that_are_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Car 0 0 0 1 2 3 4 1.5 2 4 1 1.7 nan 0 .9\n")
    with pytest.raises(DataError, match="not finite"):
        read_objects(tmp_path / "a.txt", True)


@pytest.mark.parametrize("metric", ["nuscenes", "av2"])
@pytest.mark.filterwarnings("error")
def test_figures_of_nothing_to_find_are_none(metric: str, tmp_path: Path) -> None:
    for folder, rows in (("labels", ""), ("boxes", f"Car,{BOX}\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(f"{HEAD}\n{rows}")
    found = score(tmp_path / "labels", tmp_path / "boxes", metric)["model"]
    assert found["mAP"] is None
    assert not any(isinstance(value, float) for value in found.values())


def test_poses_with_a_field_without_end_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "poses.csv").write_text("time_s,x_m,y_m,yaw_rad\n" + "1" * 200_000 + ",0,0,0\n")
    with pytest.raises(DataError, match="poses are"):
        read_poses(tmp_path / "poses.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("elevations = [[1, 2], [3, 4]]\ncolumns = 100", "1 to 512 rings"),
        ("elevations = [1]\ncolumns = 1e9", "20,000 columns"),
        ("elevations = [1]\ncolumns = inf", "all numbers"),
        ("elevations = [1, nan]\ncolumns = 100", "between -89 and 89"),
        ("elevations = [1]\ncolumns = 100\nreach = inf", "reach in 1 to 1,000 m"),
        ("elevations = [1]\ncolumns = 100\nforward = nan", "forward within 100 m"),
        ("columns = 100", "with elevations"),
    ],
)
def test_sensors_that_cannot_be_say_why(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        sensor(str(tmp_path / "mine.toml"), np.random.default_rng(0))
