"""Snapshots: folders named by what is in them, and `current`, which is moved from one to the next.

snapshots/<digest>/model.safetensors        written under another name, then renamed
snapshots/current -> <digest>               replaced by a rename: it always leads to a whole snapshot

Servers map the file instead of reading it, so all of them on a machine share one copy; its numbers have 32
bits for that. A snapshot is replaced, never written into.
"""

import hashlib
import os
import shutil
from pathlib import Path

from core.errors import ConfigError, DataError
from core.units.contract import stay_eager
from core.weights import save
from recsys.model import SlateModel
from recsys.models.slate import SlateNetwork
from recsys.predict import recommend
from recsys.retrieval.ann import AnnIndex
from recsys.trained import whole

KEPT = 3
"""Snapshots that stay, the current one among them."""


def digest(path: Path) -> str:
    """Name of a snapshot: the first digits of its SHA-256."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()[:16]


def stamp(path: Path) -> tuple[int, int, int]:
    """What tells without reading whether a file is another one."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def publish(weights: str | Path, root: str | Path) -> Path:
    """Put weights under `root` and let `current` lead to them; gives the snapshot's folder.

    Raises:
        WeightsError: they cannot be loaded.
        DataError: the folder cannot be written.
    """
    root = Path(root)
    tensors, card = whole(weights)
    wide = {name: one.float() if one.is_floating_point() else one for name, one in tensors.items()}
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = root / f".new.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save(partial / "model.safetensors", wide, card)
        with open(partial / "model.safetensors", "rb") as file:
            os.fsync(file.fileno())
        name = digest(partial / "model.safetensors")
        folder = root / name
        if folder.exists():
            shutil.rmtree(partial)
        else:
            os.rename(partial, folder)
        link = root / f".current.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        os.replace(link, root / "current")
    except OSError as error:
        raise DataError(f"{root}: cannot hold snapshots ({error.strerror}).") from error
    prune(root, name)
    return folder


def prune(root: Path, current: str) -> None:
    """Let the oldest snapshots go; a server that still has one open keeps it in memory."""
    folders = [one for one in root.iterdir() if one.is_dir() and not one.is_symlink() and one.name[0] != "."]
    folders.sort(key=lambda one: one.stat().st_mtime, reverse=True)
    for old in [one for one in folders if one.name != current][KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def opened(weights: str, ann: str | None = None) -> SlateModel:
    """Weights as they are now, mapped, with their shelf or neighbour lists made and their passes compiled.

    Args:
        ann: faiss or usearch: lists for scores that are a product or a distance.

    Raises:
        ConfigError: lists for weights that are answered without.
    """
    model = SlateModel.load(weights, mapped=True)
    if ann is not None:
        if not isinstance(model.network, SlateNetwork):
            raise ConfigError(
                f"{weights} is answered without neighbour lists; --ann is for scores that are a product or a "
                "distance (train --model paper)."
            )
        model.network.lists = AnnIndex.of(model.network, ann)
    stay_eager(model.network)
    state = model.network.initial_state(1)
    for policy in ("greedy", "inslate"):
        recommend(model, [], 1, policy, state=state)
    return model
