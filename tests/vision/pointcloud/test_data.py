"""Clouds and labels from files: every layout, what is damaged, and the way back."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.errors import DataError
from vision.pointcloud.cli import app
from vision.pointcloud.convert import write_labels
from vision.pointcloud.data import read_cloud
from vision.pointcloud.formats.kitti import CAMERA, kitti_label, read_calibration, to_label, to_lidar
from vision.pointcloud.formats.labels import Truth, read_kitti_labels, read_table_labels, role

ROWS = np.random.default_rng(0).uniform([-30, -20, -2, 0], [30, 20, 2, 1], (400, 4)).astype(np.float32)


def same(path: Path, rows: np.ndarray = ROWS, tolerance: float = 1e-6) -> None:
    cloud = read_cloud(path)
    np.testing.assert_allclose(cloud.points, rows[:, :3], atol=tolerance)
    assert cloud.intensity is not None
    np.testing.assert_allclose(cloud.intensity, rows[:, 3], atol=tolerance)


def pcd_header(mode: str, points: int = len(ROWS), fields: str = "x y z intensity") -> bytes:
    n = len(fields.split())
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {'4 ' * n}\nTYPE {'F ' * n}\nCOUNT {'1 ' * n}\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {mode}\n"
    ).encode()


def literal_lzf(data: bytes) -> bytes:
    """LZF without any back reference."""
    return b"".join(bytes([len(p) - 1]) + p for p in (data[k : k + 32] for k in range(0, len(data), 32)))


def test_every_layout_gives_the_same_points(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(ROWS.tobytes())
    np.save(tmp_path / "a.npy", ROWS)
    np.savez(tmp_path / "a.npz", points=ROWS)
    (tmp_path / "binary.pcd").write_bytes(pcd_header("binary") + ROWS.tobytes())
    columns = ROWS.T.tobytes()
    packed = literal_lzf(columns)
    lengths = struct.pack("<II", len(packed), len(columns))
    (tmp_path / "packed.pcd").write_bytes(pcd_header("binary_compressed") + lengths + packed)
    text = "\n".join(" ".join(f"{value:.7g}" for value in row) for row in ROWS)
    (tmp_path / "ascii.pcd").write_bytes(pcd_header("ascii") + text.encode())
    (tmp_path / "plain.xyz").write_text(text)
    (tmp_path / "named.csv").write_text("x,y,z,intensity\n" + text.replace(" ", ","))
    head = "property float x\nproperty float y\nproperty float z\nproperty float intensity\nend_header\n"
    for name, order, kind in (("little", "binary_little_endian", "<f4"), ("big", "binary_big_endian", ">f4")):
        start = f"ply\nformat {order} 1.0\nelement vertex {len(ROWS)}\n{head}".encode()
        (tmp_path / f"{name}.ply").write_bytes(start + ROWS.astype(kind).tobytes())
    (tmp_path / "ascii.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex {len(ROWS)}\n{head}{text}\n")
    for path in sorted(tmp_path.iterdir()):
        same(path, tolerance=1e-4 if "ascii" in path.name or path.suffix in (".xyz", ".csv") else 1e-6)


def test_parquet_and_feather_are_read_by_column_name(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = pa.table({name: ROWS[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))})
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.feather")
    same(tmp_path / "a.parquet")
    same(tmp_path / "a.feather")


def test_five_columns_with_a_ring_are_nuscenes(tmp_path: Path) -> None:
    ring = np.tile(np.arange(20, dtype=np.float32), 20)
    (tmp_path / "a.pcd.bin").write_bytes(np.column_stack([ROWS, ring]).astype("<f4").tobytes())
    cloud = read_cloud(tmp_path / "a.pcd.bin")
    assert cloud.format == "nuscenes"
    assert cloud.frame == "yx"
    assert cloud.ring is not None
    assert cloud.ring.max() == 19


def test_rows_without_a_return_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[3, 0], rows[5, 2], rows[8, :3] = np.nan, np.inf, 0
    (tmp_path / "a.bin").write_bytes(rows.tobytes())
    cloud = read_cloud(tmp_path / "a.bin")
    assert cloud.dropped == 3
    assert len(cloud) == len(rows) - 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.bin", b"", "empty"),
        ("a.bin", ROWS.tobytes()[:-3], "not whole float32"),
        ("a.pcd", pcd_header("binary", 10**12) + ROWS.tobytes(), "bytes follow"),
        ("a.pcd", pcd_header("binary", fields="a b c d") + ROWS.tobytes(), "no column x, y, z"),
        ("a.pcd", pcd_header("zip"), "ascii, binary"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9999\nproperty int x\nend_header\n", "more lines"),
        ("a.npz", b"PK\x03\x04 nothing", "damaged"),
        ("a.csv", b"x,y\n1,2\n", "no column z"),
        ("a.csv", b"1 2 3\n4 5\n", "different length"),
        ("a.pkl", b"\x80\x04.....", "pickles may run code"),
        ("a.parquet", b"PAR1 nothing PAR1", "damaged"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_one_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_cloud(tmp_path / name)


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="may run code"):
        read_cloud(tmp_path / "a.npy")


def test_a_label_comes_back_from_the_camera_frame(tmp_path: Path) -> None:
    boxes = np.array([[12.0, 2.0, -0.7, 4.2, 1.7, 1.5, 0.6], [20.0, -5.0, -0.9, 3.9, 1.6, 1.6, -2.9]])
    np.testing.assert_allclose(to_lidar(to_label(boxes, CAMERA), CAMERA), boxes, atol=1e-9)
    lines = [kitti_label(box, "Car", CAMERA) for box in boxes]
    (tmp_path / "a.txt").write_text(
        "\n".join(line for line in lines if line) + "\nDontCare -1 -1 -10 0 0 9 9\n"
    )
    truth = read_kitti_labels(tmp_path / "a.txt", CAMERA)
    np.testing.assert_allclose(truth.boxes, boxes, atol=1e-2)


def test_a_calibration_without_its_matrix_is_named(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(DataError, match="needs the matrix R0_rect with 9 numbers"):
        read_calibration(tmp_path / "calib.txt")


def test_a_quaternion_gives_the_yaw(tmp_path: Path) -> None:
    head = "category,length_m,width_m,height_m,qw,qx,qy,qz,tx_m,ty_m,tz_m"
    half = 0.25
    row = f"REGULAR_VEHICLE,4,2,1.5,{np.cos(half)},0,0,{np.sin(half)},1,2,3"
    (tmp_path / "a.labels.csv").write_text(f"{head}\n{row}\n")
    truth = read_table_labels(tmp_path / "a.labels.csv")
    np.testing.assert_allclose(truth.boxes[0], [1, 2, 3, 4, 2, 1.5, 2 * half], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Car", "Car"), ("REGULAR_VEHICLE", "Car"), ("Van", "neutral"), ("LARGE_VEHICLE", "neutral"),
     ("Tram", "neutral"), ("Pedestrian", "Pedestrian"), ("BICYCLIST", "Cyclist"), ("tree", "other")],
)  # fmt: skip
def test_names_have_roles(name: str, kind: str) -> None:
    assert role(name) == kind


def test_json_of_rows_is_no_cloud(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(json.dumps({"a": [1, 2]}))
    with pytest.raises(DataError):
        read_cloud(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".bin", ".npy", ".npz", ".pcd", ".ply", ".csv", ".parquet", ".feather"])
def test_a_cloud_survives_every_layout(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(ROWS.tobytes())
    answer = CliRunner().invoke(app, ["convert", str(tmp_path / "a.bin"), "-o", str(tmp_path / f"b{suffix}")])
    assert answer.exit_code == 0, answer.output
    if suffix == ".npz":
        np.testing.assert_allclose(read_cloud(tmp_path / "b.npz").points, ROWS[:, :3])
    same(tmp_path / f"b{suffix}")


def test_labels_go_to_kitti_and_back(tmp_path: Path) -> None:
    box = np.array([[12.0, 2.0, -0.7, 4.2, 1.7, 1.5, 0.6]])
    write_labels(Truth(box, ("Car",)), tmp_path / "a.label.txt", CAMERA)
    words = ["convert", str(tmp_path / "a.label.txt"), "-o", str(tmp_path / "b.labels.csv")]
    assert CliRunner().invoke(app, words).exit_code == 0
    np.testing.assert_allclose(read_table_labels(tmp_path / "b.labels.csv").boxes, box, atol=1e-2)
