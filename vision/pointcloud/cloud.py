"""A scan: points in the frame of their file, and what else the file says about them."""

from dataclasses import dataclass, field

import numpy as np

from core.errors import DataError

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

    def local(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (M, 7 or more) of the file's frame where `points` lie: less `origin`."""
        if self.origin is None:
            return boxes
        out = np.array(boxes, np.float64)
        out[:, :3] -= self.origin
        return out


FARTHEST_M = 1e9
"""No place lies farther from zero, on any map; NaN and infinity neither."""


def cloud_of(columns: dict[str, np.ndarray], format: str, name: str, frame: str = "xyz") -> Cloud:
    """A cloud from columns x, y, z and perhaps intensity, ring, time; rows without a return are dropped.

    Raises:
        DataError: columns of different length, of something else than numbers, or none of x, y, z.
    """
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise DataError(f"{name}: no column {', '.join(missing)}; there are {', '.join(columns) or 'none'}.")
    for column, values in columns.items():
        if values.dtype.kind not in "iufb":
            raise DataError(f"{name}: its column {column} holds no real numbers ({values.dtype}).")
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise DataError(f"{name}: its columns have different lengths ({', '.join(map(str, sorted(sizes)))}).")
    with np.errstate(invalid="ignore"):  # a signalling NaN is dropped like any other
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
