"""Names that files use for the columns of a cloud."""

import numpy as np

from core.errors import DataError

ALIASES = {
    "x": ("x", "x_m", "px", "pos_x", "//x", "x[m]", "points_m_xyz:0", "points:0"),
    "y": ("y", "y_m", "py", "pos_y", "y[m]", "points_m_xyz:1", "points:1"),
    "z": ("z", "z_m", "pz", "pos_z", "z[m]", "points_m_xyz:2", "points:2"),
    "intensity": ("intensity", "i", "reflectance", "remission", "reflectivity", "scalar_intensity"),
    "ring": ("ring", "laser_number", "laser_id", "channel", "laser"),
    "time": ("time", "t", "timestamp", "offset_ns", "gps_time"),
}


def standard(columns: dict[str, np.ndarray], file: str) -> dict[str, np.ndarray]:
    """Columns under our names; those that nobody needs are left out.

    Raises:
        DataError: none of the names of x, y or z is there.
    """
    lower = {name.strip().lower(): values for name, values in columns.items()}
    found = {}
    for name, aliases in ALIASES.items():
        key = next((alias for alias in aliases if alias in lower), None)
        if key is not None:
            found[name] = lower[key]
    missing = [axis for axis in "xyz" if axis not in found]
    if missing:
        there = ", ".join(columns) or "none"
        raise DataError(f"{file}: no column {', '.join(missing)}; there are {there}.")
    return found
