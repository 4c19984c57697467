"""EuRoC ground truth without a header: nanoseconds, position, quaternion (w first), perhaps velocity.

17 columns are t p(3) q(4) v(3) and gyroscope and accelerometer bias; 8 columns end with the quaternion
(Burri et al. 2016, doi 10.1177/0278364915620033).
"""

from apps.trajectory.formats.columns import tracks_of
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError


def read_euroc(table: Table, options: Options) -> list[Track]:
    """One track, with velocities where there are 11 columns or more.

    Raises:
        DataError: fewer than four columns.
    """
    columns = list(table.rows.columns)
    if len(columns) < 4:
        raise DataError(f"{table.path}: {len(columns)} columns, where EuRoC has 8 or 17.")
    found: dict[str, str] = dict(zip(("t", "x", "y", "z"), columns, strict=False))
    if len(columns) >= 11:
        found |= dict(zip(("vx", "vy", "vz"), columns[8:11], strict=True))
    return tracks_of(table, found, options, usual_unit="ns")
