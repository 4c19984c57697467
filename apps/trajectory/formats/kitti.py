"""KITTI odometry poses: twelve numbers per row, the upper 3 x 4 of a pose, times in a file of their own.

Positions are columns 4, 8 and 12. Their axes are those of the camera (right, down, forward) and stay as
written unless frame camera is asked for (https://www.cvlibs.net/datasets/kitti/eval_odometry.php).
"""

from pathlib import Path

import numpy as np

from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.columns import even_stamps
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.source import as_text, read_bytes
from apps.trajectory.formats.stamps import Stamps, stamps
from apps.trajectory.formats.table import Table, parse
from apps.trajectory.track import Track, stem_of
from core.errors import DataError


def read_kitti(table: Table, options: Options) -> list[Track]:
    """One track.

    Raises:
        DataError: not twelve columns, no times and no rate, or times of another count.
    """
    columns = list(table.rows.columns)
    if len(columns) != 12:
        raise DataError(f"{table.path}: {len(columns)} columns, where a KITTI pose has 12.")
    positions = np.stack([table.numbers(columns[index]) for index in (3, 7, 11)], 1)
    warnings = []
    if options.frame is None:
        warnings.append(
            "camera axes (right, down, forward) are kept as written; --read frame=camera turns z up."
        )
    times = options.times or (None if options.rate else beside(table.path))
    if times is None and options.rate is None:
        raise DataError(f"{table.path}: KITTI poses have no times; give --read times=FILE or rate=10.")
    if times is None:
        clock = even_stamps(len(positions), options.rate)
    else:
        if options.times is None:
            warnings.append(f"times are taken from {times.name} beside it.")
        clock = read_times(times, options.time_unit)
        if len(clock.ns) != len(positions):
            raise DataError(f"{table.path}: {len(positions)} poses, but {times} has {len(clock.ns)} times.")
    return [
        assemble(
            table.path,
            stem_of(table.path),
            clock,
            positions,
            frame=options.frame,
            has_clock=times is not None,
            gate=options.gate,
            warnings=warnings,
        )
    ]


def read_times(path: Path, unit: str | None) -> Stamps:
    """Times, one per row."""
    table = parse(path, as_text(path, read_bytes(path)))
    name = table.rows.columns[0]
    try:
        return stamps(table.column(name), name, unit, "s")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def beside(path: Path) -> Path | None:
    """`00_poses.txt` -> `00_times.txt`, or `times.txt` in the same folder, where it exists."""
    for name in (path.name.replace("poses", "times"), "times.txt"):
        other = path.with_name(name)
        if other != path and other.is_file():
            return other
    return None
