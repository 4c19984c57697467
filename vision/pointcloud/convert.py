"""Clouds and labels from one layout to another; every field that was read is written again."""

from pathlib import Path

import numpy as np

from core.errors import ConfigError
from core.files import whole_file, write_text
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.formats.kitti import Camera, kitti_label
from vision.pointcloud.formats.labels import Truth

CLOUDS = (".bin", ".npy", ".npz", ".pcd", ".ply", ".csv", ".xyz", ".parquet", ".feather")
FIELDS = ("intensity", "ring", "time")


def columns_of(cloud: Cloud) -> dict[str, np.ndarray]:
    """x, y, z and what else the cloud has, by name."""
    places = cloud.points.astype(np.float64)
    if cloud.origin is not None:
        places = places + cloud.origin
    found = {axis: places[:, k] for k, axis in enumerate("xyz")}
    for name in FIELDS:
        values = getattr(cloud, name)
        if values is not None:
            found[name] = np.asarray(values)
    return found


def write_cloud(cloud: Cloud, path: str | Path) -> None:
    """A cloud in the layout that the suffix names; numbers are float32 except in tables.

    Coordinates of a map, which float32 rounds to decimetres and worse, are float64.

    Raises:
        ConfigError: no such suffix, or coordinates of a map as .bin, which has no float64.
    """
    path = Path(path)
    columns = columns_of(cloud)
    table = np.column_stack(list(columns.values())) if len(cloud) else np.zeros((0, len(columns)))
    kind = path.suffix.lower()
    if kind not in CLOUDS:
        raise ConfigError(f"{path}: no layout {kind!r}; there are {', '.join(CLOUDS)}.")
    if kind == ".bin" and cloud.origin is not None:
        raise ConfigError(f"{path}: coordinates of a map do not fit float32 rows; take .pcd, .ply or .npz.")
    number, size = ("float", 4) if cloud.origin is None else ("double", 8)
    if kind in (".csv", ".xyz"):
        mark = "," if kind == ".csv" else " "
        rows = [mark.join(columns)] if kind == ".csv" else []
        rows += [mark.join(f"{value:.10g}" for value in row) for row in table]
        write_text(path, "\n".join(rows) + "\n")
        return
    with whole_file(path) as part:
        if kind == ".bin":
            strength = columns.get("intensity", np.zeros(len(cloud)))
            rows = np.column_stack([table[:, :3], strength])
            part.write_bytes(rows.astype("<f4").tobytes())
        elif kind in (".npy", ".npz"):
            with part.open("wb") as file:
                if kind == ".npy":
                    np.save(file, table[:, : 4 if "intensity" in columns else 3].astype(f"f{size}"))
                else:
                    rest = {name: values for name, values in columns.items() if name in FIELDS}
                    places = table[:, :3].astype(f"f{size}")
                    np.savez_compressed(file, allow_pickle=False, points=places, **rest)
        elif kind == ".pcd":
            part.write_bytes(pcd_head(columns, len(cloud), size) + table.astype(f"<f{size}").tobytes())
        elif kind == ".ply":
            lines = [f"property {number} {name}" for name in columns]
            head = [
                "ply",
                "format binary_little_endian 1.0",
                f"element vertex {len(cloud)}",
                *lines,
                "end_header",
            ]
            part.write_bytes(("\n".join(head) + "\n").encode() + table.astype(f"<f{size}").tobytes())
        else:
            import pyarrow as pa
            from pyarrow import feather, parquet

            arrow = pa.table(columns)
            write = parquet.write_table if kind == ".parquet" else feather.write_feather
            write(arrow, str(part))


def pcd_head(columns: dict[str, np.ndarray], count: int, size: int = 4) -> bytes:
    """Header of a binary PCD whose fields are floats of `size` bytes."""
    n, sizes = len(columns), " ".join([str(size)] * len(columns))
    return (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {' '.join(columns)}\n"
        f"SIZE {sizes}\nTYPE {' '.join('F' * n)}\nCOUNT {' '.join('1' * n)}\nWIDTH {count}\n"
        f"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
    ).encode()


def write_labels(truth: Truth, path: str | Path, camera: Camera | None, cloud: Cloud | None = None) -> int:
    """Labels as KITTI text (.txt, needs the camera) or as a table (.csv); gives how many were written.

    Raises:
        ConfigError: another suffix, or KITTI text without a camera.
    """
    path = Path(path)
    if path.suffix == ".csv":
        points = count_inside(cloud.points, truth.boxes) if cloud is not None else np.zeros(len(truth), int)
        rows = ["category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw,num_interior_pts"]
        for box, name, count in zip(truth.boxes, truth.names, points, strict=True):
            x, y, z, length, width, height, yaw = (f"{value:.5f}" for value in box)
            rows.append(f"{name},{length},{width},{height},{x},{y},{z},{yaw},{count}")
        write_text(path, "\n".join(rows) + "\n")
        return len(truth)
    if path.suffix != ".txt" or camera is None:
        raise ConfigError(f"{path}: labels are written as .csv, or as KITTI .txt with --calib.")
    lines = [kitti_label(box, name, camera) for box, name in zip(truth.boxes, truth.names, strict=True)]
    written = [line for line in lines if line is not None]
    write_text(path, "".join(f"{line}\n" for line in written))
    return len(written)
