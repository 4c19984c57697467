"""The run folder: config.toml, metrics.csv, model.safetensors (best), last/state.pt, card.md."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

from core.config import to_toml
from core.errors import ConfigError
from core.files import check_folder_place, write_text
from core.training.checkpoint import load_state

LAST = "last"
"""The folder of what a run goes on from."""
STATE = "last/state.pt"
BEST = "last/best.safetensors"
"""The best weights as training left them, where `finish` has been at those on top before the run was over."""
LOCK = "last/lock"
FREE = ("max_minutes", "checkpoint_steps", "tensorboard", "workers", "patience_s")
"""Options that do not change what a run computes, so resuming may change them."""
MORE = ("epochs", "max_steps")
"""Options of the loop that may be raised: the run goes on to the new end, along a schedule of that length."""
FILES = ("config.toml", "metrics.csv", "model.safetensors", "last", "card.md")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Inside, no other process of this machine trains into the folder; the lock dies with its process.

    Raises:
        ConfigError: another one does.
    """
    if fcntl is None:
        yield
        return
    path = out / LOCK
    path.parent.mkdir(exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"another process trains into {out} ({file.read(100) or 'unknown'}). "
                "Wait for it, or choose another folder."
            ) from None
        except OSError:
            yield  # a file system without locks
            return
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {gethostname()} since {datetime.now():%Y-%m-%d %H:%M}")
        file.flush()
        yield


def check_folder(out: str | Path, resume: bool | str) -> bool:
    """Whether a run of this folder goes on: a question before data are read or made. Writes nothing.

    `resume` is True (a run must be there), False (none may be), or "auto": go on where one is.

    Raises:
        ConfigError: a new run where one exists, no run to resume, or another word for `resume`.
        RecurraError: no folder can be there.
    """
    out = Path(out)
    if resume not in (True, False, "auto"):
        raise ConfigError(f'resume must be true, false or "auto", got {resume!r}.')
    stages = sorted(path.parent.name for path in out.glob("[1-9]-*/config.toml"))
    present = [name for name in (*FILES, *stages) if (out / name).exists()]
    if resume == "auto":
        resume = bool(present)
    if present and not resume:
        raise ConfigError(
            f"{out} already holds a run ({', '.join(present)}). "
            "Go on with it by resume=True, or choose another folder."
        )
    if resume and not out.is_dir():
        raise ConfigError(f"{out}: no run to resume here. Without resume=True one begins.")
    check_folder_place(out)
    return bool(resume)


def open_run(out: Path, origin: Mapping[str, Any], resume: bool | str) -> dict[str, Any] | None:
    """Make the folder of a new run, or give the state to resume from (None: from the start).

    `origin` is all that decides the result; its part "settings" goes to config.toml.

    Raises:
        ConfigError: a new run where one exists, no run to resume, or another origin than it was begun with.
        WeightsError: the checkpoint is damaged.
    """
    check_folder(out, resume)
    if (out / STATE).exists():
        state = load_state(out / STATE)
        refuse_changes(out, json.loads(state["origin"]), json.loads(json.dumps(origin)))
        return state
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}).") from error
    keep_settings(out, origin["settings"])
    return None


def keep_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Write config.toml where it is not there or says something else."""
    text, path = to_toml(without_none(settings)), out / "config.toml"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def refuse_changes(out: Path, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Resuming with other settings would be neither run.

    Raises:
        ConfigError: names each setting that differs.
    """
    changed = changes(stored["settings"], given["settings"])
    changed = changed or changes(stored, given)  # what is not among the domain's settings
    if changed:
        raise ConfigError(
            f"{out} was begun with other settings ({'; '.join(changed)}). "
            "Resume with the same, or choose another folder."
        )


def changes(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs, by name."""
    before, now = flat(stored), flat(given)
    return [
        f"{name} was {before.get(name, 'unset')}, is {now.get(name, 'unset')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and name.split(".")[-1] not in FREE
        if not longer(name, before.get(name), now.get(name))
    ]


def longer(name: str, before: Any, now: Any) -> bool:
    """Whether a run is only asked to go on for more steps; None is no limit."""
    section, _, last = name.rpartition(".")
    if section.split(".")[-1] != "loop" or last not in MORE or before is None:
        return False
    return now is None or now > before


def flat(settings: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """{"model": {"unit": "gru"}} -> {"model.unit": "gru"}."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{section}{name}.")
        else:
            values[f"{section}{name}"] = value
    return values


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the unset ones, which TOML cannot say."""
    return {
        name: without_none(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }
