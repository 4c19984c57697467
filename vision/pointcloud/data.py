"""Clouds and labels from files: what a file is, is found in its content, never in its name alone."""

from pathlib import Path

from core.errors import DataError
from core.files import read_bytes
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.formats import las, pcd, ply, raw, scanners, tables

LARGEST = 2 << 30
"""Bytes a scan may have."""
SUFFIXES = {
    ".bin", ".npz", ".npy", ".pcd", ".ply", ".csv", ".txt", ".xyz", ".feather", ".parquet", ".las",
    ".laz", ".e57", ".bag", ".db3", ".mcap",
}  # fmt: skip


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
