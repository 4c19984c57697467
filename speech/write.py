"""What is written beside sound: who speaks when; and whether every output can be written at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import write_text
from core.text import in_json
from speech.audio import RAW, check_output

SEGMENTS = (".rttm", ".json")


def check_targets(targets: Sequence[Path | None]) -> None:
    """Every sound file can be written, before any work is done.

    Raises:
        ConfigError: a suffix that is no sound file.
    """
    for target in targets:
        if target is not None and target.suffix.lower() not in RAW:
            check_output(target, 48000, 1)


def check_segments(path: Path) -> None:
    """The name of a file of segments.

    Raises:
        ConfigError: a suffix that is none of ours.
    """
    if path.suffix.lower() not in SEGMENTS:
        raise ConfigError(f"{path}: segments are written as .rttm or .json.")


def write_segments(path: Path, found: Sequence[Any]) -> None:
    """Who speaks when, of all files: RTTM (NIST) or JSON."""
    if path.suffix.lower() == ".json":
        write_text(path, in_json({r.path: r.segments for r in found}, 2) + "\n")
        return
    lines = [
        f"SPEAKER {Path(r.path).stem.replace(' ', '_')} 1 {s['begin_s']:.3f} "
        f"{s['end_s'] - s['begin_s']:.3f} <NA> <NA> s{s['talker']} <NA> <NA>"
        for r in found
        for s in r.segments
    ]
    write_text(path, "\n".join(lines) + "\n")
