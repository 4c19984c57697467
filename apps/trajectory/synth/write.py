"""Generated flights as a file of tracks that every reader here, and any spreadsheet, understands."""

import gzip
import io
from pathlib import Path

import pandas as pd

from apps.trajectory.synth import generate, recorded
from core.files import whole_file


def write_flights(
    out: Path, count: int, seconds: float, family: str | None, *, clean: bool, seed: int
) -> tuple[int, int]:
    """Write `count` flights as CSV (kind, traj, timestamp, tx, ty, tz), packed when the name ends in .gz.

    Returns:
        Flights and samples written.

    Raises:
        ConfigError: unknown family.
        RecurraError: the file cannot be written.
    """
    flights = generate(seed, count, split="test", families=[family] if family else None, duration_s=seconds)
    frames = []
    for number, flight in enumerate(flights):
        track = flight.track() if clean else recorded(flight)
        frame = pd.DataFrame(track.positions.round(4), columns=["tx", "ty", "tz"])
        frame.insert(0, "timestamp", track.time_s.round(6))
        frame.insert(0, "traj", number)
        frame.insert(0, "kind", flight.kind)
        frames.append(frame)
    text = pd.concat(frames).to_csv(index=False, lineterminator="\n")
    with whole_file(out) as partial:
        if out.suffix == ".gz":
            packed = io.BytesIO()
            with gzip.GzipFile(
                fileobj=packed, mode="wb", mtime=0
            ) as file:  # no time: equal seeds, equal bytes
                file.write(text.encode())
            partial.write_bytes(packed.getvalue())
        else:
            partial.write_text(text, encoding="utf-8")
    return len(frames), sum(map(len, frames))
