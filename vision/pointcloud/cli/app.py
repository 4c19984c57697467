"""The application that the verbs sign in to."""

from typing import Annotated

import typer

from core.terminal import application

app = application(
    "Find cars, people and cyclists in LiDAR scans of any sensor.\n\n"
    "Example: recurra pointcloud detect scan.bin --json boxes.json"
)

Inputs = Annotated[list[str], typer.Argument(help="Scans: files, folders or globs.")]
"""Scans of a verb."""
