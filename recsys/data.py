"""Logs of slates: files on disk -> `Slates`, checked at the door, external ids inside.

The layout is the public slates dataset's (arXiv 2111.03340): `slate` (U, T, S) with item 1 ("nothing was
clicked") in slot 0 of every used step and 0 as padding, `click` and `click_idx` (U, T), `slate_lengths`,
`interaction_type` (1 search, 2 recommendation). Ids 0, 1, 2 are padding, no click, unknown item; items start
at 3. The other reader takes one row per slot (Parquet or CSV: user, time, kind, slot, item, click).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from core.errors import DataError
from recsys.archives import read_npz
from recsys.slates import (
    FIRST,
    NOTHING,
    PAD,
    UNKNOWN,
    Catalogue,
    Slates,
)
from recsys.tables import read_catalogue, read_table_of_slots

LARGEST_ID = 2**31 - 1


def read_slates(path: str | Path, items: str | Path | None = None, *, check: bool = True) -> Slates:
    """Read a log: an .npz or a folder in the public layout, or a table with one row per slot.

    Args:
        items: the group table (`itemattr.npz` with `category`, or a table `item,group`); left out, the one
            that lies beside the log.
        check: look at every row; switched off for files that were checked before.

    Raises:
        DataError: missing, damaged, pickled, or a row contradicts itself; the row is named.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "data.npz" if (path / "data.npz").exists() else path
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    if path.is_dir() or path.suffix.lower() in (".parquet", ".csv", ".gz"):
        return read_table_of_slots(path, items)
    arrays = read_npz(path, ("slate", "click", "click_idx"))
    slate = arrays["slate"]
    if slate.ndim != 3 or not np.issubdtype(slate.dtype, np.integer):
        raise DataError(f"{path}: 'slate' must be whole numbers (users, steps, slots), got {slate.shape}.")
    users, steps, _ = slate.shape
    for name in ("click", "click_idx", "slate_lengths", "interaction_type"):
        if name in arrays and arrays[name].shape != (users, steps):
            raise DataError(
                f"{path}: {name!r} has shape {arrays[name].shape}, 'slate' wants {(users, steps)}."
            )
        if name in arrays and not np.issubdtype(arrays[name].dtype, np.integer):
            raise DataError(f"{path}: {name!r} must hold whole numbers, got {arrays[name].dtype}.")
    if not users or not steps:
        raise DataError(f"{path}: there is no user in it.")
    lengths = arrays.get("slate_lengths")
    lengths = np.asarray((slate > 0).sum(-1)) if lengths is None else lengths
    kind = arrays.get("interaction_type")
    kind = np.zeros((users, steps), np.int16) if kind is None else kind
    ids = np.asarray(arrays.get("userId", np.arange(users)))
    if ids.shape != (users,):
        raise DataError(f"{path}: 'userId' has shape {ids.shape}, expected ({users},).")
    catalogue = groups_beside(path, items) or Catalogue(np.zeros(0, np.int64))
    slates = Slates(
        users=ids,
        slate=slate,
        click=arrays["click"],
        click_idx=arrays["click_idx"],
        lengths=lengths,
        kind=kind,
        catalogue=catalogue,
        source=str(path),
        time=arrays.get("time"),
        propensity=arrays.get("propensity"),
    )
    if check:
        check_slates(slates)
    if not len(catalogue):
        largest = int(slate.max(initial=0))
        slates = replace(slates, catalogue=Catalogue(np.zeros(max(largest + 1, FIRST), np.int64)))
    return slates


def check_slates(slates: Slates, piece: int = 20_000) -> None:
    """Every step is what the layout says.

    Raises:
        DataError: names file, user row and step.
    """
    known = len(slates.catalogue) or LARGEST_ID
    for start in range(0, len(slates), piece):
        part = slates.rows(slice(start, start + piece))
        slate = np.asarray(part.slate).astype(np.int64)
        click, slot = np.asarray(part.click).astype(np.int64), np.asarray(part.click_idx).astype(np.int64)
        lengths = np.asarray(part.lengths).astype(np.int64)
        used = lengths > 0

        def refuse(bad: np.ndarray, what: str, first: int = start) -> None:
            if bad.any():
                row, step = (int(n) for n in np.argwhere(bad)[0][:2])
                raise DataError(
                    f"{slates.source}: user row {first + row}, step {step}: {what} "
                    f"({int(bad.sum())} such steps here)."
                )

        refuse(
            np.asarray((slate < 0).any(-1) | (slate >= known).any(-1)), f"an item id outside 0..{known - 1}"
        )
        refuse((lengths < 0) | (lengths > slates.slots), f"a slate length outside 0..{slates.slots}")
        refuse((slot < 0) | (used & (slot >= np.maximum(lengths, 1))), "click_idx is outside the slate")
        at = np.take_along_axis(slate, np.clip(slot, 0, slates.slots - 1)[..., None], -1)[..., 0]
        judged = used & (click != PAD) & (click != UNKNOWN)
        refuse(judged & (at != click), "the clicked item is not in the slate at click_idx")
        refuse(used & (slate[..., 0] != NOTHING), "slot 0 of a used step must hold item 1 (nothing clicked)")
        filled = np.arange(slates.slots) < lengths[..., None]
        refuse(used & (filled & (slate == PAD)).any(-1), "an empty slot inside the slate's length")
        ordered = np.sort(np.where(filled & (slate >= FIRST), slate, -np.arange(1, slates.slots + 1)), -1)
        refuse((ordered[..., 1:] == ordered[..., :-1]).any(-1), "an item stands twice in one slate")


def groups_beside(path: Path, items: str | Path | None) -> Catalogue | None:
    """The group table given, or the one that lies beside a log, or None."""
    beside = [path.with_name("itemattr.npz"), path.with_name(f"{path.stem}_itemattr.npz")]
    found = Path(items) if items is not None else next((one for one in beside if one.exists()), None)
    return None if found is None else read_catalogue(found)


def split_users(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The authors' split: 90 % train, 5 % validation, 5 % test, by `torch.randperm` of a seed."""
    import torch

    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    few = int(0.05 * count)
    return order[2 * few :], order[:few], order[few : 2 * few]


def folds(count: int, number: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Users dealt into `number` parts of nearly equal size."""
    return np.array_split(np.random.default_rng(seed).permutation(count), number)
