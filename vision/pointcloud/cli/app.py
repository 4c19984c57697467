"""The application that the verbs sign in to."""

from collections.abc import Sequence
from typing import Annotated

import typer

from core.jobs import Input, gather
from core.terminal import application, set_threads

app = application(
    "Find cars, people and cyclists in LiDAR scans of any sensor.\n\n"
    "Example: recurra pointcloud detect scan.bin --json boxes.json"
)

Inputs = Annotated[list[str], typer.Argument(help="Scans: files, folders or globs.")]
"""Scans of a verb."""


def scans_of(words: Sequence[str]) -> list[Input]:
    """The scans among files, folders and globs; labels and calibrations in a folder are none."""
    from vision.pointcloud.data import SUFFIXES
    from vision.pointcloud.examples import is_scan

    return gather(words, SUFFIXES, keep=is_scan)


def begin(threads: int | None, seed: int) -> None:
    """Threads and random numbers of what a verb does; answers draw none, but weights of one's own may."""
    import torch

    set_threads(threads)
    torch.manual_seed(seed)
