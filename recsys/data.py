"""Logs of slates: files on disk -> `Slates`, checked at the door, external ids inside.

The layout is the public slates dataset's (arXiv 2111.03340): `slate` (U, T, S) with item 1 ("nothing was
clicked") in slot 0 of every used step and 0 as padding, `click` and `click_idx` (U, T), `slate_lengths`,
`interaction_type` (1 search, 2 recommendation). Ids 0, 1, 2 are padding, no click, unknown item; items start
at 3. The other reader takes one row per slot (Parquet or CSV: user, time, kind, slot, item, click).
"""

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.door import array, array_header
from core.errors import DataError
from core.files import in_words

PAD, NOTHING, UNKNOWN, FIRST = 0, 1, 2, 3
"""Reserved ids, and the first item."""
SEARCH, RECOMMENDATION = 1, 2
KINDS = {"unknown": 0, "search": SEARCH, "rec": RECOMMENDATION, "recommendation": RECOMMENDATION}
LARGEST_ID = 2**31 - 1
LARGEST_FILE = 16 << 30
LARGEST_PACKED = 2 << 30
"""Bytes that one packed array may unpack to; stored ones stay in the file."""


@dataclass(frozen=True)
class Catalogue:
    """The items a model knows: internal number -> external id and group. Numbers below 3 are reserved."""

    group: np.ndarray
    """(I,) int64: group of each item."""
    names: tuple[str, ...] | None = None
    """(I,) external ids; None: the numbers themselves."""

    def __len__(self) -> int:
        return len(self.group)

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    def name(self, item: int) -> str | int:
        """External id of an internal number."""
        return int(item) if self.names is None else self.names[int(item)]

    def numbers(self, ids: Sequence[Any]) -> np.ndarray:
        """External ids -> internal numbers; what is not in the catalogue becomes 2 (unknown)."""
        if self.names is None:
            found = []
            for one in ids:
                number = whole_number(one)
                found.append(number if number is not None and FIRST <= number < len(self) else UNKNOWN)
            return np.array(found, dtype=np.int64)
        return np.array([self.lookup.get(str(one), UNKNOWN) for one in ids], dtype=np.int64)

    @property
    def lookup(self) -> dict[str, int]:
        """External id -> internal number."""
        if "_lookup" not in self.__dict__:
            names = self.names or ()
            object.__setattr__(
                self, "_lookup", {name: index for index, name in enumerate(names) if index >= FIRST}
            )
        return self.__dict__["_lookup"]


@dataclass(frozen=True)
class Slates:
    """Users x steps x slots. Arrays may be memory maps; nothing here changes them."""

    users: np.ndarray
    """(U,) external ids."""
    slate: np.ndarray
    """(U, T, S) internal item numbers."""
    click: np.ndarray
    """(U, T)"""
    click_idx: np.ndarray
    """(U, T) slot of the click."""
    lengths: np.ndarray
    """(U, T) filled slots, slot 0 among them; 0 = the step was not used."""
    kind: np.ndarray
    """(U, T) 1 search, 2 recommendation, 0 unknown."""
    catalogue: Catalogue
    source: str = ""
    time: np.ndarray | None = None
    """(U, T) seconds, where the log has them."""
    remarks: tuple[str, ...] = field(default=())
    """What a person should know about the reading: cut, skipped, counted."""
    propensity: np.ndarray | None = None
    """(U, T, S) chance of each slot's item given the slots before; NaN is unknown."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def steps(self) -> int:
        return self.slate.shape[1]

    @property
    def slots(self) -> int:
        return self.slate.shape[2]

    def rows(self, index: np.ndarray | slice) -> "Slates":
        """Some of the users."""
        names = ("users", "slate", "click", "click_idx", "lengths", "kind")
        parts = {name: getattr(self, name)[index] for name in names}
        for name in ("time", "propensity"):
            whole = getattr(self, name)
            parts[name] = None if whole is None else whole[index]
        return replace(self, **parts)

    def counted(self) -> np.ndarray:
        """(U, T) steps that a likelihood counts: neither padding nor an unknown item."""
        return (self.lengths > 0) & (self.click != PAD) & (self.click != UNKNOWN)


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
        from recsys.tables import read_table_of_slots

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


def read_catalogue(path: str | Path) -> Catalogue:
    """A group table: .npz with `category`, or a table with the columns item and group."""
    path = Path(path)
    if path.suffix != ".npz":
        from recsys.tables import read_group_table

        return read_group_table(path)
    arrays = read_npz(path, ("category",))
    group = arrays["category"]
    if group.ndim != 1 or not np.issubdtype(group.dtype, np.integer) or (group < 0).any():
        raise DataError(f"{path}: 'category' must be one whole number, at least 0, per item.")
    names = arrays.get("item_id")
    return Catalogue(
        np.asarray(group).astype(np.int64), None if names is None else tuple(str(name) for name in names)
    )


def read_npz(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of an .npz; members stored without compression are memory-mapped.

    Raises:
        DataError: missing, truncated, with pickled objects, or an array is not there.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path}: larger than {LARGEST_FILE >> 30} GB; split it by users.")
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                arrays[name] = mapped(path, archive, member)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        LookupError,
        RuntimeError,
    ) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays ({error}).") from error
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"{path}: no array {missing[0]!r} in it; it has {', '.join(sorted(arrays))}.")
    return arrays


def mapped(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive, as a memory map where its bytes lie in the file as they are."""
    with archive.open(member) as stream:
        shape, fortran, dtype = array_header(stream, member.file_size, path, DataError)
        header = stream.tell()
    if member.compress_type != zipfile.ZIP_STORED:
        if member.file_size > LARGEST_PACKED:
            raise DataError(f"{path}: {member.filename} unpacks to {in_words(member.file_size)}.")
        return array(archive.read(member), path, DataError)
    if not int(np.prod(shape)):
        return np.zeros(shape, dtype)
    with open(path, "rb") as file:  # the local header has lengths of its own
        file.seek(member.header_offset + 26)
        name_length, extra = np.frombuffer(file.read(4), "<u2")
    offset = member.header_offset + 30 + int(name_length) + int(extra) + header
    if offset + int(np.prod(shape)) * dtype.itemsize > path.stat().st_size:
        raise ValueError("the file ends too early")
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def whole_number(value: Any) -> int | None:
    """A whole number of an id given as number or text, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, str) and len(value) < 40 and re.fullmatch(r"\s*-?[0-9]+\s*", value):
        return int(value)
    return None


def split_users(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The authors' split: 90 % train, 5 % validation, 5 % test, by `torch.randperm` of a seed."""
    import torch

    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    few = int(0.05 * count)
    return order[2 * few :], order[:few], order[few : 2 * few]


def folds(count: int, number: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Users dealt into `number` parts of nearly equal size."""
    return np.array_split(np.random.default_rng(seed).permutation(count), number)
