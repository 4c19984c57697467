"""Weights that come with the pipelines: `weights/*.safetensors`, listed in `weights/index.json` beside them.

Listing and finding read the small index only, so they need no torch.
"""

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from core.domains import weights_folders
from core.errors import WeightsError
from core.text import first_line


def find(name: str | Path) -> Path:
    """The weights file of a bundled name, of a path, or of a run folder (its best weights).

    Raises:
        WeightsError: nothing by this name; the message lists close names.
    """
    path = Path(name)
    if path.is_dir():
        best = path / "model.safetensors"
        if best.is_file():
            return best
        raise WeightsError(f"{path}: a folder without model.safetensors. Has the run finished an epoch?")
    known = {row["name"]: row["path"] for row in index_rows()}
    if str(name) in known:
        return known[str(name)]
    if path.is_file():
        return path
    close = get_close_matches(str(name), known, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    bundled_names = ", ".join(sorted(known)) or "none"
    raise WeightsError(
        f"no weights {str(name)!r}: not a file, a run folder or a bundled name ({bundled_names}).{hint}"
    )


def bundled() -> list[dict[str, Any]]:
    """One plain row a file: name, file, task, unit, parameters, bytes, sha256, score, data, terms."""
    return [{key: value for key, value in row.items() if key != "path"} for row in index_rows()]


def index_rows() -> list[dict[str, Any]]:
    """Rows of every `weights/index.json`, each with the path of its file, sorted by name."""
    rows = []
    for folder in weights_folders():
        rows += [{**row, "path": folder / row["file"]} for row in read_index(folder / "index.json")]
    return sorted(rows, key=lambda row: row["name"])


def read_index(index: Path) -> list[dict[str, Any]]:
    """Rows of one index.

    Raises:
        WeightsError: the index is damaged.
    """
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))["models"]
        return [{**row, "name": str(row["name"]), "file": str(row["file"])} for row in rows]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{index}: the list of bundled weights is damaged ({first_line(error)})."
        ) from error


def check_index(path: Path, data: bytes) -> None:
    """Size and SHA-256 of a file that an index beside it lists.

    Raises:
        WeightsError: the file is not the one that was bundled.
    """
    index = path.parent / "index.json"
    if path.parent.name != "weights" or not index.is_file():
        return
    for row in read_index(index):
        if row["file"] == path.name:
            if len(data) != row.get("bytes"):
                wrong = f"{len(data)} bytes instead of {row.get('bytes')}"
            elif hashlib.sha256(data).hexdigest() != row.get("sha256"):
                wrong = "another SHA-256"
            else:
                return
            raise WeightsError(f"{path}: not the file that was bundled ({wrong}). Install Recurra again.")
