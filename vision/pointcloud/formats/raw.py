"""Rows of floats without a header (KITTI, nuScenes, ONCE), and numpy's arrays."""

from pathlib import Path

import numpy as np

from core.door import arrays
from core.errors import DataError
from vision.pointcloud.cloud import FARTHEST_M, Cloud, cloud_of

CHOICES = (4, 5, 6, 3)
SURER = 3.0
"""By so much another width must look more like a scan to say that a file is cut off."""
LARGEST = 512 << 20
"""Bytes that the arrays of a file may unpack to."""


def read_floats(data: bytes, name: str, columns: int | None = None) -> Cloud:
    """Little-endian float32 rows; the number of columns follows from size and content.

    Raises:
        DataError: no number of columns fits.
    """
    if len(data) % 4:
        raise DataError(f"{name}: {len(data)} bytes are not whole float32 numbers; is the file cut off?")
    values = np.frombuffer(data, "<f4")
    choices = (columns,) if columns else tuple(n for n in CHOICES if len(values) % n == 0)
    if not choices or len(values) % choices[0]:
        raise DataError(f"{name}: {len(values)} numbers are no rows of {columns or '3 to 6'}; is it cut off?")
    width = max(choices, key=lambda n: likely(values, n, name))
    if columns is None:
        refuse_cut(values, width, name)
    if columns is None and likely(values, width, name) < 0:
        raise DataError(f"{name}: not a point cloud: as float32 rows its places are no metres.")
    table = values.reshape(-1, width)
    found = {axis: table[:, k] for k, axis in enumerate("xyz")}
    if width > 3:
        found["intensity"] = table[:, 3]
    frame = "xyz"
    if width == 5 and whole(table[:, 4]) and table[:, 4].max(initial=0) < 512:
        found["ring"] = table[:, 4].astype(np.int32)
        frame = "yx"  # nuScenes: x right, y forward
    elif width > 4:
        found["time"] = table[:, -1]
    return cloud_of(found, "nuscenes" if frame == "yx" else "bin", name, frame)


def refuse_cut(values: np.ndarray, width: int, name: str) -> None:
    """Whether a width that does not divide the numbers explains them far better: then the end is missing.

    Raises:
        DataError: it does.
    """
    others = [n for n in CHOICES if len(values) % n and len(values) >= 16 * n]
    better = max(others, key=lambda n: likely(values, n, name), default=None)
    if better is not None and likely(values, better, name) > likely(values, width, name) + SURER:
        raise DataError(
            f"{name}: rows of {better} numbers, and {len(values) % better} numbers more; is the file cut off?"
        )


def likely(values: np.ndarray, width: int, name: str) -> float:
    """How well rows of this width look like a scan; below 0 not at all."""
    with np.errstate(invalid="ignore"):  # random bytes are signalling NaN, too
        # in float64 no spread of float32 numbers overflows
        table = values[: len(values) // width * width].reshape(-1, width)[:20_000].astype(np.float64)
    finite = np.isfinite(table[:, :3])
    if not len(table) or finite.mean() < 0.3:
        return -1.0
    size = np.abs(table[:, :3][finite])
    strange = (size >= FARTHEST_M) | ((size > 0) & (size < 1e-20))  # such as bytes in the other order
    if np.median(size) > 1e6 or strange.mean() > 0.1:
        return -1.0
    # in the wrong width the axes are mixed: heights would reach as far as distances
    spread = table[:, :3][finite.all(1)].std(0) if finite.all(1).any() else np.ones(3)
    score = float(np.log1p(spread[:2].mean() / max(spread[2], 1e-3)))
    if width >= 4:
        fourth = table[:, 3]
        positive = np.isfinite(fourth) & (fourth >= 0)
        score += 2.0 * float(positive.mean() > 0.999)
    if width == 5:
        score += 2.0 * float(whole(table[:, 4]) and table[:, 4].max() < 512)
        score += 1.0 * name.endswith(".pcd.bin")
    return score + 0.1 * (width == 4)


def whole(values: np.ndarray) -> bool:
    """Whether all numbers are whole and not negative."""
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.floor(values)).all())


NAMES: dict[str, tuple[str, ...]] = {
    "points": ("points", "xyz", "cloud", "pts", "arr_0", "data", "velodyne", "lidar"),
    "intensity": ("intensity", "reflectance", "remission"),
    "ring": ("ring", "laser_number", "laser", "channel"),
    "time": ("time", "t", "timestamp", "offset_ns"),
}


def read_arrays(data: bytes, name: str) -> Cloud:
    """An .npy array (N, 3+) or an .npz with one, whatever it is called; further columns by name.

    Raises:
        DataError: pickled objects, no array of rows, or a damaged file.
    """
    stored = arrays(data, name, largest=LARGEST, error=DataError)
    named = {key or "points": value for key, value in stored.items()}
    tables = {key: value for key, value in named.items() if value.ndim == 2 and 3 <= value.shape[1] <= 64}
    chosen = next((key for key in NAMES["points"] if key in tables), next(iter(tables), None))
    if chosen is None:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in named.items()) or "nothing"
        raise DataError(f"{name}: no array of rows x, y, z; there is {shapes}.")
    table = tables[chosen]
    if not np.issubdtype(table.dtype, np.number) or np.iscomplexobj(table):
        raise DataError(f"{name}: {chosen} holds {table.dtype}, not real numbers.")
    table = table.astype(np.float64)  # float16 would overflow in a mean
    found: dict[str, np.ndarray] = {axis: table[:, k] for k, axis in enumerate("xyz")}
    if table.shape[1] > 3:
        found["intensity"] = table[:, 3]
    for column in ("intensity", "ring", "time"):
        key = next((key for key in NAMES[column] if key in named and named[key].shape == (len(table),)), None)
        if key is not None:
            found[column] = named[key]
    return cloud_of(found, Path(name).suffix.lstrip(".") or "npy", name)
