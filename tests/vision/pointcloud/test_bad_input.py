"""What people give that is damaged, empty, enormous or upside down: an answer, or one clear sentence."""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import DataError, RecurraError
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.convert import write_cloud
from vision.pointcloud.data import read_cloud
from vision.pointcloud.formats.kitti import read_calibration
from vision.pointcloud.formats.labels import read_kitti_labels, read_table_labels
from vision.pointcloud.ground import NO_GROUND
from vision.pointcloud.models.lion import PatchMerging3D
from vision.pointcloud.predict import Detector
from vision.pointcloud.reading import Reading, as_said
from vision.pointcloud.sparse_conv import InverseConv, StridedConv, SubmanifoldConv
from vision.pointcloud.synth.scan import Scan, simulate
from vision.pointcloud.voxels import Voxels, dense


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = Detector.open("pointcloud-bev")
    found.mirror = False
    return found


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(1_000_012, "hdl64", tilted=False)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3)),
        np.array([[5.0, 1.0, -1.0]]),
        np.tile([5.0, 1.0, -1.0], (900, 1)),
        np.random.default_rng(0).uniform(5, 5.3, (900, 3)),
        np.random.default_rng(0).uniform(300, 400, (900, 3)),
        np.random.default_rng(0).uniform([-30, -30, 470], [30, 30, 530], (4000, 3)),
    ],
    ids=["empty", "one point", "one place", "one voxel", "out of range", "no ground"],
)
def test_clouds_without_a_street_are_answered(points: np.ndarray, detector: Detector) -> None:
    found = detector(Cloud(points.astype(np.float32), name="odd"))
    assert np.isfinite(found.boxes).all()
    assert len(found) < 20
    if found.ground.support < NO_GROUND:
        assert any("no ground" in remark or "no points" in remark for remark in found.remarks)


def test_a_scan_upside_down_is_turned_and_says_so(scan: Scan, detector: Detector) -> None:
    right = detector(Cloud(scan.points[:, :3], name="right"))
    flipped = scan.points[:, :3] * np.array([1, -1, -1], np.float32)
    read = as_said(Cloud(flipped, name="flipped"), Reading())
    assert any("x-y-z" in remark for remark in read.remarks)
    found = detector(read)
    assert abs(len(found) - len(right)) <= 1


def recall_between(right: np.ndarray, found: np.ndarray, within: float) -> int:
    """How many boxes have one of the others within so many metres."""
    if not len(right) or not len(found):
        return 0
    gaps = np.hypot(*(right[:, None, :2] - found[None, :, :2]).transpose(2, 0, 1))
    return int((gaps.min(1) < within).sum())


def turned(scan: Scan, degrees: float) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Points turned about z, and the way back for boxes."""
    a = np.radians(degrees)
    matrix = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return scan.points[:, :3] @ matrix.T.astype(np.float32), lambda boxes: boxes[:, :3] @ matrix


def near_cars(found: np.ndarray, names: tuple[str, ...], reach_m: float = 30.0) -> np.ndarray:
    """Centres (n, 3) of cars within reach."""
    cars = found[[name == "Car" for name in names]][:, :3]
    return cars[np.hypot(cars[:, 0], cars[:, 1]) < reach_m]


def test_a_scan_that_is_shifted_turned_tilted_scaled_or_on_other_axes_gives_the_same_cars(
    scan: Scan, detector: Detector
) -> None:
    points = scan.points[:, :3]
    found = detector(Cloud(points, name="as it is"))
    right = near_cars(found.boxes, found.names)
    assert len(right) >= 4
    quarter, back = turned(scan, 90)
    for name, moved, home in (
        ("lifted", points + np.array([0, 0, 2.5], np.float32), lambda b: b[:, :3] - [0, 0, 2.5]),
        ("turned", quarter, back),
        ("millimetres", points * 1000, lambda b: b[:, :3]),
        ("y up", points[:, [0, 2, 1]] * np.array([1, 1, -1], np.float32), lambda b: b[:, :3]),
    ):
        read = as_said(Cloud(moved.astype(np.float32), name=name), Reading())
        again = detector(read)
        cars = home(again.boxes)[[kind == "Car" for kind in again.names]]
        assert recall_between(right, cars, 0.1) >= len(right) - 1, name
    odd, back = turned(scan, 33)
    again = detector(Cloud(odd, name="33 degrees"))
    cars = back(again.boxes)[[kind == "Car" for kind in again.names]]
    assert recall_between(right, cars, 0.5) >= len(right) - 1  # another quadrant sees them from another side
    t = np.radians(2)
    tilt = np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])
    again = detector(Cloud((points @ tilt.T).astype(np.float32), name="tilted"))
    cars = (again.boxes[:, :3] @ tilt)[[kind == "Car" for kind in again.names]]
    assert recall_between(right, cars, 0.2) >= len(right) - 1


def las(count: int, rows: bytes, kind: int = 0, length: int = 20) -> bytes:
    """A LAS file of version 1.2."""
    head = bytearray(227)
    head[:4], head[24], head[25] = b"LASF", 1, 2
    struct.pack_into("<HIIBHI", head, 94, 227, 227, 0, kind, length, count)
    struct.pack_into("<6d", head, 131, 0.001, 0.001, 0.001, 500_000.0, 4_000_000.0, 30.0)
    return bytes(head) + rows


def test_las_keeps_the_origin_of_a_map(tmp_path: Path) -> None:
    places = np.random.default_rng(0).integers(-20_000, 20_000, (50, 3))
    rows = b"".join(struct.pack("<iiiH6x", *place, 7) for place in places.tolist())
    (tmp_path / "a.las").write_bytes(las(50, rows))
    cloud = read_cloud(tmp_path / "a.las")
    assert cloud.origin is not None
    wanted = places * 0.001 + [500_000, 4_000_000, 30]
    np.testing.assert_allclose(cloud.points + cloud.origin, wanted, atol=2e-3)
    assert cloud.intensity is not None
    assert (cloud.intensity == 7).all()


def test_laz_is_unpacked_where_its_package_is(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    pytest.importorskip("lazrs")
    table = laspy.create(point_format=3, file_version="1.2")
    table.header.scales = [0.001] * 3
    table.x, table.y, table.z = np.random.default_rng(1).uniform(-30, 30, (3, 80))
    table.write(str(tmp_path / "a.laz"))
    table.write(str(tmp_path / "a.las"))
    packed, plain = read_cloud(tmp_path / "a.laz"), read_cloud(tmp_path / "a.las")
    np.testing.assert_allclose(packed.points, plain.points, atol=1e-4)
    np.testing.assert_allclose(packed.points[:, 0], np.asarray(table.x), atol=2e-3)


@pytest.mark.parametrize("ending", ["db3", "mcap"])
def test_a_bag_gives_its_first_cloud(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("rosbags")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    kinds = store.types
    rows = np.random.default_rng(2).uniform(-20, 20, (30, 4)).astype(np.float32)
    fields = [
        kinds["sensor_msgs/msg/PointField"](name=name, offset=4 * k, datatype=7, count=1)
        for k, name in enumerate(("x", "y", "z", "intensity"))
    ]
    padded = np.zeros((2, 15 * 16 + 8), np.uint8)  # rows end with eight bytes of nothing
    padded[:, : 15 * 16] = rows.view(np.uint8).reshape(2, 15 * 16)
    head = kinds["std_msgs/msg/Header"](
        stamp=kinds["builtin_interfaces/msg/Time"](sec=1, nanosec=0), frame_id="lidar"
    )
    message = kinds["sensor_msgs/msg/PointCloud2"](
        header=head, height=2, width=15, fields=fields, is_bigendian=False, point_step=16,
        row_step=15 * 16 + 8, data=padded.ravel(), is_dense=True,
    )  # fmt: skip
    folder = tmp_path / "bag"
    plugin = StoragePlugin.MCAP if ending == "mcap" else StoragePlugin.SQLITE3
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/points", "sensor_msgs/msg/PointCloud2", typestore=store)
        for stamp in (1, 2):
            data = store.serialize_cdr(message, "sensor_msgs/msg/PointCloud2")
            writer.write(connection, stamp, data)
    cloud = read_cloud(next(folder.glob(f"*.{ending}")))
    np.testing.assert_allclose(cloud.points, rows[:, :3])
    np.testing.assert_allclose(cloud.intensity, rows[:, 3])  # pyright: ignore[reportArgumentType]
    assert "first of 2 clouds" in cloud.remarks[-1]


def test_an_e57_scan_is_read_with_its_intensity(tmp_path: Path) -> None:
    pye57 = pytest.importorskip("pye57")
    rows = np.random.default_rng(2).uniform(-20, 20, (4, 30))
    names = ("cartesianX", "cartesianY", "cartesianZ", "intensity")
    file = pye57.E57(str(tmp_path / "one.e57"), mode="w")
    file.write_scan_raw(dict(zip(names, rows, strict=True)))
    file.close()
    cloud = read_cloud(tmp_path / "one.e57")
    np.testing.assert_allclose(cloud.points, rows[:3].T, atol=1e-5)
    np.testing.assert_allclose(cloud.intensity, rows[3], atol=1e-5)  # pyright: ignore[reportArgumentType]


BROKEN: dict[str, bytes] = {
    "wrong columns.bin": b"\0" * 1001,
    "huge.pcd": b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 99999999999\n"
    b"HEIGHT 1\nPOINTS 99999999999\nDATA binary\nabc",
    "huge.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\n"
    b"property float y\nproperty float z\nend_header\nabc",
    "huge.las": las(4_000_000_000, b"abc"),
    "short.las": b"LASF" + b"\0" * 20,
    "zero scale.las": las(0, b"")[:131] + b"\0" * 24 + las(0, b"")[155:],
    "no.e57": b"ASTM-E57" + b"\1" * 200,
    "no.bag": b"#ROSBAG V2.0\n" + b"\1" * 200,
    "no.db3": b"SQLite format 3\0" + b"\1" * 200,
    "ragged.csv": b"1,2,3\n4,5\n",
    "words.csv": b"x,y,z\n1,2,three\n",
    "two columns.csv": b"1,2\n3,4\n",
    "damaged.parquet": b"PAR1" + b"\1" * 100,
    "damaged.npz": b"PK\3\4" + b"\1" * 100,
    "pickle.pkl": b"\x80\x04\x95" + b"\1" * 50,
    "nothing.bin": b"",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_damaged_files_are_one_sentence_in_our_words(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(RecurraError) as told:
        read_cloud(path)
    text = str(told.value)
    assert name in text or "package" in text
    assert "\n" not in text
    for foreign in ("could not", "cannot reshape", "invalid literal", "Errno", "ndarray", "Traceback"):
        assert foreign not in text


@pytest.mark.parametrize("columns", [3, 4, 5])
def test_rows_that_end_early_are_not_taken_for_rows_of_another_width(columns: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [rng.uniform(-30, 30, (1201, 2)), rng.normal(-1.7, 0.3, 1201), rng.random((1201, 2))]
    )
    rows[:, 4] = np.arange(1201) % 32
    whole = rows[:, :columns].astype("<f4").tobytes()
    path = tmp_path / "scan.bin"
    path.write_bytes(whole)
    assert len(read_cloud(path)) == 1201
    for less in range(1, columns):
        path.write_bytes(whole[: -4 * less])
        with pytest.raises(DataError, match="cut off"):
            read_cloud(path)


def test_labels_and_calibrations_that_cannot_be_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("P0: 1 2 3\nP2: " + "1 " * 12)
    with pytest.raises(DataError, match="R0_rect"):
        read_calibration(path)
    path.write_text("Car 0 0 0 1 2 3\n")
    from vision.pointcloud.formats.kitti import CAMERA

    with pytest.raises(DataError, match="line 1"):
        read_kitti_labels(path, CAMERA)
    path.write_text("category,length_m\nCar,wide\n")
    with pytest.raises(DataError, match="line 2"):
        read_table_labels(path)


def test_nothing_half_written_stays_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    cloud = Cloud(scan.points[:100, :3], name="a")

    def full(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises((RecurraError, OSError)):
        write_cloud(cloud, tmp_path / "a.pcd")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tail=st.binary(min_size=1, max_size=400),
    head=st.sampled_from([b"", b"ply\n", b"# .PCD v0.7\nFIELDS x y z\n", b"LASF", b"PK\3\4", b"\x93NUMPY"]),
)
def test_any_bytes_are_a_cloud_or_one_sentence(tail: bytes, head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fuzz"
    path.write_bytes(head + tail)
    with suppress(RecurraError):  # anything else is a traceback for its user
        assert np.isfinite(read_cloud(path).points).all()


SHAPE = (3, 5, 4)


@settings(max_examples=25, deadline=None)
@given(
    cells=arrays(np.int64, st.tuples(st.integers(1, 25), st.just(4)), elements=st.integers(0, 2)),
    kernel=st.sampled_from([(3, 3, 3), (1, 3, 3), (3, 1, 1)]),
)
def test_sparse_convolutions_are_dense_ones_where_voxels_are(
    cells: np.ndarray, kernel: tuple[int, ...]
) -> None:
    """Coordinates at borders and corners, duplicates left out as voxelising does."""
    coords = torch.from_numpy(np.unique(cells % [2, 3, 3, 3] + [0, 0, 1, 1], axis=0))
    torch.manual_seed(0)
    voxels = Voxels(torch.randn(len(coords), 2, dtype=torch.float64), coords, SHAPE, 2)
    layer = SubmanifoldConv(2, 3, kernel, bias=True).double()
    weight = layer.weight.permute(0, 4, 1, 2, 3)
    whole = torch.nn.functional.conv3d(
        dense(voxels), weight, layer.bias, padding=[size // 2 for size in kernel]
    )
    b, z, y, x = coords.unbind(1)
    torch.testing.assert_close(layer(voxels), whole[b, :, z, y, x])


@pytest.mark.parametrize("operator", ["submanifold", "strided", "inverse", "merge"])
def test_sparse_operators_have_the_gradients_of_their_definition(operator: str) -> None:
    torch.manual_seed(1)
    coords = torch.cartesian_prod(*(torch.arange(n) for n in (1, 2, 3, 2)))[::2]
    voxels = Voxels(torch.zeros(len(coords), 2), coords, (2, 3, 2), 1)
    x = torch.randn(len(coords), 2, dtype=torch.float64, requires_grad=True)
    if operator == "submanifold":
        layer = SubmanifoldConv(2, 2, bias=True).double()

        def run(value: torch.Tensor) -> torch.Tensor:
            return layer(voxels.having(value))
    elif operator == "strided":
        layer = StridedConv(2, 2, (3, 3, 3), (2, 2, 2), (1, 1, 1), bias=True).double()

        def run(value: torch.Tensor) -> torch.Tensor:
            return layer(voxels.having(value)).features
    elif operator == "inverse":
        down, layer = StridedConv(2, 2).double(), InverseConv(2, 2).double()

        def run(value: torch.Tensor) -> torch.Tensor:
            fine = voxels.having(value)
            return layer(down(fine).features, fine, (2, 2, 2), (1, 1, 1))
    else:
        layer = PatchMerging3D(2).double()

        def run(value: torch.Tensor) -> torch.Tensor:
            return layer(replace(voxels, features=value))[0].features

    assert torch.autograd.gradcheck(run, (x,), atol=1e-6)
    run(x).square().sum().backward()
    assert all(part.grad is not None for part in layer.parameters())


@pytest.mark.slow
def test_ten_million_points_are_answered(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-60, -60, -1.8], [60, 60, -1.6], (10_000_000, 3)).astype(np.float32)
    assert np.isfinite(detector(Cloud(points, name="many")).boxes).all()
