"""Clouds and labels from files: what a file is, is found in its content, never in its name alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import DataError
from core.files import read_bytes

LARGEST = 2 << 30
"""Bytes a scan may have."""
SUFFIXES = {
    ".bin", ".npz", ".npy", ".pcd", ".ply", ".csv", ".txt", ".xyz", ".feather", ".parquet", ".las",
    ".laz", ".e57", ".bag", ".db3", ".mcap",
}  # fmt: skip
NO_RETURN_M = 0.1
"""A return nearer than this is none: organised clouds hold zeros where nothing came back."""


@dataclass(frozen=True)
class Cloud:
    """Points of one scan in the frame of their file, and what else the file says about them."""

    points: np.ndarray
    """(N, 3) float32, metres unless the file uses another unit."""
    intensity: np.ndarray | None = None
    """(N,) float32 as the file has it; not comparable between sensors."""
    ring: np.ndarray | None = None
    """(N,)"""
    time: np.ndarray | None = None
    """(N,) seconds or as the file has it."""
    frame: str = "xyz"
    """Axes of the file: "xyz" is x forward, y left, z up; "yx" is x right, y forward."""
    format: str = ""
    name: str = ""
    dropped: int = 0
    """Rows that were no returns: not finite, or at the origin."""
    origin: np.ndarray | None = None
    """(3,) float64 that was subtracted before rounding to float32, for coordinates of maps."""
    remarks: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.points)


FARTHEST_M = 1e9
"""No place lies farther from zero, on any map; NaN and infinity neither."""


def cloud_of(columns: dict[str, np.ndarray], format: str, name: str, frame: str = "xyz") -> Cloud:
    """A cloud from columns x, y, z and perhaps intensity, ring, time; rows without a return are dropped.

    Raises:
        DataError: columns of different length, or none of x, y, z.
    """
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise DataError(f"{name}: no column {', '.join(missing)}; there are {', '.join(columns) or 'none'}.")
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise DataError(f"{name}: its columns have different lengths ({', '.join(map(str, sorted(sizes)))}).")
    xyz = np.column_stack([np.asarray(columns[axis], np.float64) for axis in "xyz"])
    size = np.abs(xyz)
    good = np.logical_and.reduce(size < FARTHEST_M, axis=1) & np.logical_or.reduce(
        size >= NO_RETURN_M, axis=1
    )
    xyz = xyz[good]
    origin = None
    if len(xyz) and is_map(xyz):  # such numbers do not fit float32
        origin = np.round(xyz.mean(0))
        xyz = xyz - origin
    rest = {}
    for column in ("intensity", "ring", "time"):
        if column in columns:
            values = np.asarray(columns[column])[good]
            rest[column] = values.astype(np.float32) if column == "intensity" else values
    dropped = int(len(good) - good.sum())
    remarks = (f"{name}: {dropped} rows without a return left out.",) if dropped else ()
    return Cloud(
        xyz.astype(np.float32), frame=frame, format=format, name=name, dropped=dropped, origin=origin,
        remarks=remarks, **rest,
    )  # fmt: skip


def is_map(xyz: np.ndarray) -> bool:
    """Whether places (N, 3) are coordinates of a map: much farther from zero than from each other."""
    middle = np.abs(np.median(xyz, axis=0))
    return bool((middle > 20_000).any() and (xyz.std(0) < 0.2 * middle.max()).all())


def read_cloud(path: str | Path, columns: int | None = None) -> Cloud:
    """A scan from a file.

    KITTI and nuScenes .bin, .npy and .npz, PCD (ascii, binary, compressed), PLY (ascii, both byte orders),
    Parquet and feather, CSV and text with or without a header, LAS; with their extras LAZ, E57, and
    PointCloud2 in .bag, .db3 and .mcap.

    Args:
        columns: numbers per point of a raw .bin, where its size leaves a choice.

    Raises:
        DataError: the file cannot be read, is none of these, or contradicts its own header.
    """
    from vision.pointcloud.formats import las, pcd, ply, raw, scanners, tables

    path = Path(path)
    data = read_bytes(path, LARGEST)
    name = path.name
    if not data:
        raise DataError(f"{path}: the file is empty.")
    try:
        if data[:2] == b"PK" or data[:6] == b"\x93NUMPY":
            return raw.read_arrays(data, str(path))
        if data[:3] == b"ply":
            return ply.read_ply(data, str(path))
        if pcd.looks_like(data):
            return pcd.read_pcd(data, str(path))
        if data[:4] == b"PAR1" or data[:6] == b"ARROW1":
            return tables.read_columns(data, str(path))
        if data[:4] == b"LASF":
            return las.read_las(data, str(path))
        if data[:8] == b"ASTM-E57":
            return scanners.read_e57(path)
        if data.startswith(scanners.BAGS):
            return scanners.read_bag(path)
        if data[:1] == b"\x80" and name.endswith((".pkl", ".pickle")):
            raise DataError(
                f"{path}: pickles may run code and are refused; save the arrays with numpy.savez."
            )
        if tables.looks_like_text(data):
            return tables.read_text(data, str(path))
        return raw.read_floats(data, str(path), columns)
    except (ValueError, KeyError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged, or not a point cloud.") from error
