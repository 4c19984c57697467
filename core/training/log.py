"""What a run tells while it goes on: a CSV row an epoch, TensorBoard if asked, a progress bar."""

import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import MissingExtraError, RecurraError
from core.files import whole_file

Show = Callable[[int, str, Callable[[], float]], None]
"""(steps done, where we are, the loss if it is to be drawn)."""


METRICS = "metrics.csv"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]


def write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """A CSV file, whole or not at all; without `columns` those of all rows, in the order they come in."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class MetricsLog:
    """`metrics.csv`, one row a validation; rows after `steps_judged` steps are lost work and dropped."""

    def __init__(self, out: Path, steps_judged: int, tensorboard: bool) -> None:
        self.path = out / METRICS
        self.board = board(out / "tensorboard", steps_judged) if tensorboard else None
        kept = [row for row in self.rows() if row["step"].isdigit() and int(row["step"]) <= steps_judged]
        self.columns = list(kept[0]) if kept else []
        if kept:
            self.write(kept)
        else:
            self.path.unlink(missing_ok=True)

    def rows(self) -> list[dict[str, str]]:
        """The rows in the file that are complete."""
        return [row for row in read_rows(self.path) if "step" in row] if self.path.is_file() else []

    def write(self, rows: list[dict[str, Any]]) -> None:
        """The whole file anew."""
        write_rows(self.path, rows, self.columns)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row. One with new columns (the first epoch after start weights) widens the file."""
        if set(row) - set(self.columns):
            before = self.rows()
            self.columns = [name for name in row if name != "seconds"]
            self.columns += [name for name in before[0] if name not in row] if before else []
            self.columns += ["seconds"]
            self.write([*before, row])
        else:
            try:
                with open(self.path, "a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(row)
            except OSError as error:
                raise RecurraError(f"{self.path}: cannot be written ({error.strerror or error}).") from error
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(name.replace("_", "/", 1), value, row["step"])
            self.board.flush()


def board(folder: Path, steps_judged: int) -> Any:
    """A TensorBoard writer that hides points after `steps_judged` steps."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard is not installed; pip install 'recurra[log]'.") from error
    return SummaryWriter(str(folder), purge_step=steps_judged + 1)


@contextmanager
def progress(total: int, done: int, quiet: bool) -> Iterator[Show]:
    """A bar on stderr with loss, rate and time left; silent when asked or when stderr is not a terminal.

    The loss is only fetched when the bar is redrawn, because that waits for a GPU.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, where, loss: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=total, completed=done, loss="", rate="")
        start, first = time.monotonic(), done
        drawn = 0.0

        def show(done: int, where: str, loss: Callable[[], float]) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn < 0.2 and done < total:
                return
            drawn = now
            rate = (done - first) / max(now - start, 1e-9)
            bar.update(
                task, completed=done, description=where, loss=f"loss {loss():.4g}", rate=f"{rate:.3g} steps/s"
            )

        yield show
