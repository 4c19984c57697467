"""TUM trajectories: `t x y z qx qy qz qw`, seconds, blanks or commas, comments with #.

The quaternion may be missing, and further columns are read past (https://cvg.cit.tum.de/data/datasets/rgbd-dataset).
"""

from apps.trajectory.formats.columns import tracks_of
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError


def read_tum(table: Table, options: Options) -> list[Track]:
    """One track of the first four columns, or of three in the plane.

    Raises:
        DataError: fewer than three columns.
    """
    count = len(table.rows.columns)
    if count < 3:
        raise DataError(f"{table.path}: {count} columns, where TUM has t x y z and a quaternion.")
    names = ("t", "x", "y", "z")[: min(count, 4)]
    return tracks_of(table, dict(zip(names, table.rows.columns, strict=False)), options, usual_unit="s")
