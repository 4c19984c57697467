"""The words and readings that the commands of `recurra trajectory` share."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from core import terminal
from core.terminal import (
    application,
    say_all,
)

app = application(
    "Predict where drones and other movers will be, with calibrated uncertainty.\n\n"
    "Example: recurra trajectory predict flight.csv --horizon 2 -o prediction.json"
)


Files = Annotated[list[str], typer.Argument(help="Track files, folders, globs, or - for a list on stdin.")]


Weights = Annotated[
    str | None,
    typer.Option(help="Bundled name, weights file, run folder, or published .pth. Default: bundled."),
]


Stats = Annotated[Path | None, typer.Option(help="Statistics (.npz) of published .pth weights.")]


Compat = Annotated[
    bool, typer.Option("--compat", help="Run published weights as their node does (20 positions).")
]


MaxGap = Annotated[
    float | None,
    typer.Option("--max-gap", help="A longer step is a gap, s; half a second and five steps when left out."),
]


READER = (
    "--read takes format, columns (t=time,x=px), time_unit (s, ms, us, ns, iso, dmy, mdy), "
    "group (id or kind,traj), rate (samples per second), times (KITTI), frame (enu, ned, camera), "
    "gate (off keeps what jumps; or metres), t (as time_unit), alt (ft, m, ...). "
    "What is not told is detected."
)


OLD = {
    f"--{name}": name.replace("-", "_")
    for name in ("format", "columns", "time-unit", "group", "rate", "times", "frame")
}
"""Options of 0.1 -> the key that --read takes."""


class Reading(TyperCommand):
    """A command that reads logs: for one release the options of 0.1 mean `--read key=value`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        rest = iter(args)
        for word in rest:
            name, equals, value = word.partition("=")
            if name in OLD:
                words += ["--read", f"{OLD[name]}={value if equals else next(rest, '')}"]
            else:
                words.append(word)
        return super().parse_args(ctx, words)


def reader(words: list[str] | None) -> Any:
    """The reader's settings of `--read`."""
    from apps.trajectory.formats.options import Options

    return terminal.reader_options(Options(), words)


def read(files: list[str], options: Any, *, remarks: bool = True) -> tuple[list[Any], dict[str, str]]:
    """Tracks of all files, and the files that could not be read with the reason; remarks go to stderr.

    Raises:
        RecurraError: not one file could be read.
    """
    from apps.trajectory.data import inputs
    from apps.trajectory.formats import read as read_file
    from core import jobs

    done = jobs.run(jobs.mirror(inputs(files), None), lambda job: read_file(job.source.path, options), "logs")
    if not done.results:
        raise done.failures[0].error
    tracks = [track for _, some in done.results for track in some]
    if remarks:
        say_all(f"{track.name}: {warning}" for track in tracks for warning in track.warnings)
    say_all(f"left out: {failure}" for failure in done.failures)
    return tracks, {str(failure.source.path): str(failure.error) for failure in done.failures}


def end(files: list[str], failed: dict[str, str]) -> None:
    """Exit code 2 where a file that was named could not be read; a stray one in a folder is a remark."""
    named = {os.path.abspath(word) for word in files}
    if any(os.path.abspath(file) in named for file in failed):
        raise typer.Exit(2)


def named_model(weights: str | None, stats: Path | None, compat: bool, device: str | None = None) -> Any:
    """The model of `--weights`, `--stats`, `--compat` and `--device`."""
    from apps.trajectory.model import DEFAULT, load_model

    return load_model(weights or DEFAULT, stats, compat=compat, device=terminal.device(device))
