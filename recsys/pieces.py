"""Logs beyond memory: a folder of Parquet parts, each with whole users, one part in memory at a time.

Two passes: the first one collects the items and checks that no user is in two parts, the second one turns
part after part into arrays that lie beside each other until all are known, and are then written into one
archive.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from core.door import arrays
from core.errors import DataError
from core.files import whole_file
from recsys.archives import arrays_of
from recsys.data import check_slates
from recsys.formats import as_slots
from recsys.slates import FIRST, Catalogue
from recsys.tables import read_catalogue, slates_of

ABOVE = 256 << 20
"""Bytes of a folder from which on it is read in pieces."""


def parts_of(folder: Path) -> list[Path]:
    """Its Parquet files in order."""
    return sorted(folder.rglob("*.parquet"))


def beyond_memory(path: Path) -> bool:
    """Whether a path is a folder that is better read in pieces."""
    if not path.is_dir():
        return False
    parts = parts_of(path)
    return len(parts) > 1 and sum(part.stat().st_size for part in parts) > ABOVE


def prepare_pieces(
    folder: Path, out: Path, items: str | Path | None, read: Callable[[Path], Any]
) -> dict[str, Any]:
    """Write the layout from a folder of parts; gives counts for the report.

    Args:
        read: a part -> its table with our column names.

    Raises:
        DataError: a user is in two parts, a row contradicts itself, or there is no part.
    """
    parts = parts_of(folder)
    if not parts:
        raise DataError(f"{folder}: there is no Parquet file in it.")
    catalogue = collected(parts, read) if items is None else read_catalogue(items)
    out.mkdir(parents=True, exist_ok=True)
    totals = {"users": 0, "steps": 0, "empty": 0}
    remarks: list[str] = []
    with TemporaryDirectory(dir=out, prefix=".pieces-") as beside:
        pieces = []
        for number, part in enumerate(parts):
            slates = slates_of(read(part), str(part), catalogue)
            check_slates(slates)
            used = np.asarray(slates.lengths) > 0
            totals["users"] += len(slates)
            totals["steps"] += int(used.sum())
            totals["empty"] += int((np.asarray(slates.click_idx) == 0)[used].sum())
            remarks += slates.remarks
            pieces.append(Path(beside) / f"{number:06d}.npz")
            np.savez(pieces[-1], allow_pickle=False, **arrays_of(slates))  # pyright: ignore
        with whole_file(out / "data.npz") as partial:
            join(pieces, partial)
    attributes: dict[str, Any] = {"category": catalogue.group.astype(np.int32)}
    if catalogue.names is not None:
        attributes["item_id"] = np.array(catalogue.names)
    with whole_file(out / "itemattr.npz") as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **attributes)
    return {
        "users": totals["users"],
        "steps": totals["steps"],
        "items": len(catalogue) - FIRST,
        "groups": len(set(catalogue.group[FIRST:].tolist())),
        "no_click": totals["empty"] / max(totals["steps"], 1),
        "parts": len(parts),
        "remarks": remarks,
    }


def collected(parts: Sequence[Path], read: Callable[[Path], Any]) -> Catalogue:
    """All items of all parts, with their groups where a column says them.

    Raises:
        DataError: a user is in two parts.
    """
    groups: dict[str, str] = {}
    owner: dict[int, int] = {}
    for number, part in enumerate(parts):
        frame, _ = as_slots(read(part), str(part))
        for name in ("user", "item"):
            if name not in frame.columns:
                raise DataError(f"{part}: no column {name!r}.")
        for user in frame["user"].astype(str).unique():
            first = owner.setdefault(hash(user), number)
            if first != number:
                raise DataError(
                    f"{part}: user {user} is in {parts[first].name} too; partition the log by user."
                )
        known = frame.drop_duplicates("item")
        labels = known["group"].astype(str) if "group" in known.columns else ["0"] * len(known)
        groups.update(zip(known["item"].astype(str), labels, strict=True))
    names = sorted(groups, key=lambda name: (len(name), name))
    codes = {label: FIRST + index for index, label in enumerate(sorted(set(groups.values())))}
    table = np.concatenate([np.zeros(FIRST, np.int64), [codes[groups[name]] for name in names]])
    return Catalogue(table.astype(np.int64), ("pad", "nothing", "unknown", *names))


def join(pieces: Sequence[Path], target: Path) -> None:
    """Archives of pieces below each other as one, padded to the widest; one piece in memory at a time."""
    heads: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    rows = 0
    for piece in pieces:
        for name, array in arrays_in(piece):
            dtype, shape = heads.get(name, (array.dtype, array.shape[1:]))
            wide = tuple(max(pair) for pair in zip(shape, array.shape[1:], strict=True))
            heads[name] = (np.promote_types(dtype, array.dtype), wide)
            rows += len(array) if name == "userId" else 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, (dtype, shape) in heads.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                head = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (rows, *shape),
                }
                np.lib.format.write_array_header_1_0(stream, head)
                for piece in pieces:
                    array = dict(arrays_in(piece))[name].astype(dtype)
                    room = [(0, 0), *((0, w - n) for w, n in zip(shape, array.shape[1:], strict=True))]
                    fill = np.nan if dtype.kind == "f" else 0
                    padded = np.pad(array, room, constant_values=fill) if array.ndim > 1 else array
                    stream.write(np.ascontiguousarray(padded).tobytes())


def arrays_in(piece: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of an archive."""
    yield from arrays(piece, piece, error=DataError).items()
