"""The application, and what its commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import application, pairs, say_all

app = application(
    "Slates that learn: user models, Thompson sampling, simulation, next-item models.\n\n"
    "Example: recurra recsys recommend --history clicks.json --policy inslate --k 10"
)

Logs = Annotated[
    list[str], typer.Argument(help="Logs: .npz or folder in the slate layout, or tables of slots.")
]
Items = Annotated[
    Path | None, typer.Option("--items", help="Group table (.npz, or item,group); default: beside the log.")
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="What is tested: time (default where stamps are), users, last, none."),
]


def logs_of(files: list[str], items: Path | None) -> list[Any]:
    """Logs by name; their remarks go to stderr."""
    from recsys.data import read_slates

    logs = [read_slates(file, items) for file in files]
    for log in logs:
        say_all(log.remarks)
    return logs


def words(text: str) -> list[str]:
    """Words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def mapped(columns: list[str] | None) -> dict[str, str]:
    """`--map NAME=COLUMN` options as a dictionary."""
    return pairs("--map", ",".join(columns)) if columns else {}
