"""Corpora: index tables and folders of recordings -> voices and noises held as 16-bit samples at one rate.

    speech index   path or file, speaker, optional split and gender
    noise index    path or file, kind, optional split
    pairs          noisy,clean or mix,s1,s2[,s3...]
    a folder       with `clean/` and `noise/` inside; a speaker is a folder below `clean/`, else a file

Paths are relative to the table. Rows of a split other than the asked one are left out.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import DataError
from speech.audio import SUFFIXES, read_mono
from speech.public_sets import voices_of

RATE = 16000


@dataclass(frozen=True)
class Voice:
    """All recordings of one talker, or one recording of a noise, end to end."""

    name: str
    samples: np.ndarray
    """int16 (N,)."""
    gender: str = ""
    kind: str = ""


@dataclass
class Corpus:
    """Voices and noises of one source."""

    name: str
    speech: list[Voice] = field(default_factory=list)
    noise: list[Voice] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    """Attributions that its index asks to be named."""

    @property
    def seconds(self) -> float:
        """Of speech."""
        return sum(len(voice.samples) for voice in self.speech) / RATE


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV as dictionaries.

    Raises:
        DataError: missing, not text, or without rows.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}).") from error
    if not rows:
        raise DataError(f"{path}: has no rows.")
    return rows


def read_corpus(source: str | Path, split: str = "train") -> Corpus:
    """Speech and noise of an index or a folder.

    Raises:
        DataError: neither, or a recording in it cannot be read.
    """
    source = Path(source)
    if source.is_dir():
        return read_folder(source, split)
    rows = read_table(source)
    columns = rows[0]
    place = next((name for name in ("path", "file") if name in columns), None)
    if place is None or not {"speaker", "kind"} & set(columns):
        raise DataError(f"{source}: an index has a column path or file, and speaker or kind.")
    rows = [row for row in rows if row.get("split", split) == split]
    corpus = Corpus(source.parent.name if source.stem == "index" else source.stem)
    corpus.credits = sorted({row["attribution"] for row in rows if row.get("attribution")})
    if "speaker" in columns:
        groups: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            groups.setdefault(row["speaker"], []).append(row)
        for name, members in groups.items():
            waves = [to_int16(read_mono(source.parent / row[place], RATE)) for row in members]
            corpus.speech.append(Voice(name, np.concatenate(waves), members[0].get("gender", "")))
    else:
        for row in rows:
            wave = to_int16(read_mono(source.parent / row[place], RATE))
            corpus.noise.append(Voice(row[place], wave, kind=row["kind"]))
    return corpus


def read_folder(folder: Path, split: str) -> Corpus:
    """`clean/` and `noise/` below a folder; every tenth file in order of name is for validation.

    Raises:
        DataError: neither is there for training, and the folder is no known public data set.
    """
    corpus = Corpus(folder.name)
    groups: dict[str, list[np.ndarray]] = {}
    for path in of_split(recordings(folder / "clean"), split):
        inside = path.relative_to(folder / "clean")
        name = inside.parts[0] if len(inside.parts) > 1 else path.stem
        groups.setdefault(name, []).append(to_int16(read_mono(path, RATE)))
    corpus.speech = [Voice(name, np.concatenate(waves)) for name, waves in groups.items()]
    corpus.noise = [
        Voice(path.name, to_int16(read_mono(path, RATE)), kind="noise")
        for path in of_split(recordings(folder / "noise"), split)
    ]
    if not corpus.speech:
        corpus.speech = [
            Voice(name, np.concatenate([to_int16(read_mono(path, RATE)) for path in paths]))
            for name, paths in voices_of(folder, split)
        ]
    if not corpus.speech and not corpus.noise and split == "train":
        raise DataError(
            f"{folder}: holds no recordings in clean/ or noise/, and is no known public data set."
        )
    return corpus


def recordings(folder: Path) -> list[Path]:
    """Sound files below a folder, in order of name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def of_split(paths: Sequence[Path], split: str) -> list[Path]:
    """Every tenth of ten or more files belongs to `valid`."""
    held = set(paths[9::10])
    return [path for path in paths if (path in held) == (split == "valid")]


def to_int16(wave: np.ndarray) -> np.ndarray:
    """float (N,) in -1..1 -> int16."""
    return np.clip(np.round(wave * 32768.0), -32768, 32767).astype(np.int16)


def read_corpora(sources: Iterable[str | Path], split: str = "train") -> list[Corpus]:
    """Each of the sources, those that have nothing in this split left out."""
    corpora = [read_corpus(source, split) for source in sources]
    return [corpus for corpus in corpora if corpus.speech or corpus.noise]
