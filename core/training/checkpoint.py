"""The full state of a run in one file, and the random generators that are part of it."""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.door import torch_file
from core.errors import WeightsError
from core.files import whole_file

VERSION = 2


def save_state(path: Path, origin: Mapping[str, Any], state: dict[str, Any]) -> None:
    """Write a state of tensors and plain containers, and what it came from, whole or not at all.

    Raises:
        RecurraError: the folder is not writable, or full.
    """
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as partial:
        try:
            torch.save({"version": VERSION, "origin": json.dumps(origin), **state}, partial)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(f"{str(error).splitlines()[0]}; is the disk full?") from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a state on the CPU; no code of the file is run.

    Raises:
        WeightsError: damaged, foreign, or of another version.
    """
    try:
        state = torch_file(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: this checkpoint is damaged; start the run again elsewhere.") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise WeightsError(f"{path}: not a checkpoint of this version of Recurra.")
    return state


def rng_states(device: torch.device) -> dict[str, Any]:
    """States of every global generator that a step may draw from, in plain containers."""
    version, keys, gauss = random.getstate()
    _, numpy_keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "python": (version, keys, gauss),
        "numpy": (torch.from_numpy(numpy_keys.astype(np.int64)), position, has_gauss, cached),  # pyright: ignore
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_rng_states(states: dict[str, Any], device: torch.device) -> None:
    """Put every global generator where it was."""
    torch.set_rng_state(states["torch"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    numpy_keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", numpy_keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


def seed_generators(seed: int) -> None:
    """Seed every global generator (dropout has no other)."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Whatever the block draws, the generators are afterwards where they were before."""
    states = rng_states(device)
    try:
        yield
    finally:
        set_rng_states(states, device)
