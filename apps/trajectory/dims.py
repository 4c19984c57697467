"""Coordinates of what comes in, compared with the model's at every door.

Beneath the doors compiled code takes its sizes from the model alone; an array of another size would let it
read or write foreign memory.
"""

from typing import Any

import numpy as np

from core.errors import DataError


def check_dims(found: int, dims: int, what: str) -> None:
    """Raise DataError where `what` has another number of coordinates than the model predicts."""
    if found != dims:
        raise DataError(f"{what} has {found} coordinates; the model predicts {dims}.")


def fit_dims(positions: np.ndarray, dims: int, what: str) -> tuple[np.ndarray, bool]:
    """Positions (..., D) as the model's (..., dims), and whether they were laid into a plane.

    A mover in the plane has the height 0 for a model of three coordinates; a model of fewer coordinates than
    the track predicts the first ones.

    Raises:
        DataError: another number of coordinates.
    """
    found = positions.shape[-1]
    if (found, dims) == (2, 3):
        return np.concatenate([positions, np.zeros_like(positions[..., :1])], -1), True
    if found < dims:
        check_dims(found, dims, what)
    return positions[..., :dims], False


def fit_lines(lines: np.ndarray | None, dims: int) -> np.ndarray | None:
    """Lines (n, 2, 2, D) of `dense` for a model of `dims` coordinates, as `fit_dims` does positions."""
    if lines is None or lines.shape[-1] == dims:
        return lines
    if lines.shape[-1] < dims:
        return np.concatenate([lines, np.zeros_like(lines[..., :1])], -1)
    return lines[..., :dims]


def position_of(values: Any, dims: int) -> np.ndarray:
    """One position as float64 (dims,).

    Raises:
        DataError: another number of coordinates.
    """
    position = np.asarray(values, dtype=np.float64)
    if position.ndim != 1:
        raise DataError(f"a position must have the shape ({dims},), got {position.shape}.")
    check_dims(len(position), dims, "a position")
    return position


def history_of(values: Any, dims: int, most: int | None = None) -> np.ndarray:
    """Positions as contiguous float64 (T, dims); the newest `most` of them.

    Raises:
        DataError: fewer than two positions, or another number of coordinates.
    """
    past = np.ascontiguousarray(values, dtype=np.float64)
    if past.ndim != 2 or len(past) < 2:
        raise DataError(f"a history must be two or more positions (T, {dims}), got shape {past.shape}.")
    check_dims(past.shape[1], dims, "a history")
    return past if most is None else past[-most:]


def histories_of(values: Any, dims: int) -> np.ndarray:
    """Histories of a batch as contiguous float64 (N, T, dims).

    Raises:
        DataError: another shape, or another number of coordinates.
    """
    past = np.ascontiguousarray(values, dtype=np.float64)
    if past.ndim != 3:
        raise DataError(f"histories must have the shape (N, T, {dims}), got {past.shape}.")
    check_dims(past.shape[2], dims, "a history")
    return past
