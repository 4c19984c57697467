"""Names that files use for the columns of a cloud."""

import numpy as np

ALIASES = {
    "x": ("x", "x_m", "px", "pos_x", "//x", "x[m]", "points_m_xyz:0", "points:0"),
    "y": ("y", "y_m", "py", "pos_y", "y[m]", "points_m_xyz:1", "points:1"),
    "z": ("z", "z_m", "pz", "pos_z", "z[m]", "points_m_xyz:2", "points:2"),
    "intensity": ("intensity", "i", "reflectance", "remission", "reflectivity", "scalar_intensity"),
    "ring": ("ring", "laser_number", "laser_id", "channel", "laser"),
    "time": ("time", "t", "timestamp", "offset_ns", "gps_time"),
}


def standard(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns under our names; those that nobody needs are left out."""
    lower = {name.strip().lower(): values for name, values in columns.items()}
    found = {}
    for name, aliases in ALIASES.items():
        key = next((alias for alias in aliases if alias in lower), None)
        if key is not None:
            found[name] = lower[key]
    return found
