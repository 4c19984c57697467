"""Folders of public data sets as they are published: which files belong together, and who speaks.

    WSJ0-mix, WHAM, WHAMR   tr|cv|tt / mix | mix_clean | mix_both, s1, s2[, s3]
    LibriMix                train-*|dev|test / mix_clean | mix_both, s1, s2[, s3]
    VoiceBank+DEMAND        clean_trainset_28spk_wav, noisy_trainset_28spk_wav, clean_testset_wav, ...
    DNS                     clean, noise (training);  clean/..fileid_N.wav, noisy/..fileid_N.wav (test)

The folder to name is the one that holds these. Rows are in order of the mixtures' names.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.tables import write_table

SOUNDS = (".wav", ".flac")
SPLITS = {
    "train": ("tr", "train-360", "train-100", "train"),
    "valid": ("cv", "dev", "valid", "val"),
    "test": ("tt", "test", "eval"),
}
MIXES = {True: ("mix_both", "mix_clean", "mix"), False: ("mix_clean", "mix", "mix_both")}
VOICEBANK = {
    "train": ("clean_trainset_*wav", "noisy_trainset_*wav"),
    "test": ("clean_testset_wav", "noisy_testset_wav"),
}
FILE_ID = re.compile(r"fileid_(\d+)")
Rows = list[dict[str, str]]


def rows_of(folder: Path, split: str, *, noisy: bool = False) -> tuple[str, str, Rows]:
    """Name of the layout, its task, and a row for every mixture with paths inside the folder.

    Raises:
        DataError: no such split, no layout that is known, or a file whose counterpart is missing.
    """
    if split not in SPLITS:
        raise DataError(f"a split is one of {', '.join(SPLITS)}; got {split!r}.")
    for name, task, read in (
        ("two or three talkers", "separate", lambda: talkers(folder, split, noisy)),
        ("VoiceBank+DEMAND", "enhance", lambda: voicebank(folder, split)),
        ("DNS", "enhance", lambda: dns(folder)),
    ):
        rows = read()
        if rows:
            return name, task, rows
    raise DataError(
        f"{folder}: no WSJ0-mix, WHAM, LibriMix, VoiceBank+DEMAND or DNS test folder with a split {split}."
    )


def talkers(folder: Path, split: str, noisy: bool) -> Rows:
    """Mixtures and their sources, which bear the same name in folders side by side."""
    place = next((folder / name for name in SPLITS[split] if (folder / name / "s1").is_dir()), None)
    if place is None:
        return []
    mix = next((place / name for name in MIXES[noisy] if (place / name).is_dir()), None)
    if mix is None:
        raise DataError(f"{place}: has s1 but none of {', '.join(MIXES[noisy])}.")
    sources = [place / name for name in ("s1", "s2", "s3") if (place / name).is_dir()]
    rows = []
    for path in sounds(mix):
        row = {"mix": inside(folder, path)}
        row |= {part.name: inside(folder, counterpart(part / path.name, path)) for part in sources}
        for part, who in zip(sources, speakers(path.stem), strict=False):
            row[f"{part.name}_speaker"] = who
        rows.append(row)
    return rows


def speakers(stem: str) -> list[str]:
    """Who speaks, by names like `1272-128104-0000_2035-147961-0014` and `011a0101_1.2_401c0203_-1.2`."""
    libri = re.findall(r"(?:^|_)(\d+)-\d+-\d+", stem)
    return libri or re.findall(r"(?:^|_)(\d{2}[0-9a-z])[a-z0-9]{4,5}(?=_|$)", stem)


def voicebank(folder: Path, split: str) -> Rows:
    """Noisy and clean files of one name; the speaker is the part before the underscore."""
    if split not in VOICEBANK:
        return []
    clean, noisy = (next(iter(sorted(folder.glob(name))), None) for name in VOICEBANK[split])
    if clean is None or noisy is None:
        return []
    return [
        {
            "noisy": inside(folder, path),
            "clean": inside(folder, counterpart(clean / path.name, path)),
            "speaker": path.stem.split("_")[0],
        }
        for path in sounds(noisy)
    ]


def dns(folder: Path) -> Rows:
    """The test set of the DNS challenges: pairs by the number behind `fileid_`.

    Raises:
        DataError: a noisy file without its clean one.
    """
    noisy, clean = folder / "noisy", folder / "clean"
    if not (noisy.is_dir() and clean.is_dir()):
        return []
    known = {match[1]: path for path in sounds(clean) if (match := FILE_ID.search(path.stem))}
    rows = []
    for path in sounds(noisy):
        match = FILE_ID.search(path.stem)
        if match is None or match[1] not in known:
            raise DataError(f"{path}: no clean file with its fileid.")
        rows.append({"noisy": inside(folder, path), "clean": inside(folder, known[match[1]])})
    return rows


def sounds(folder: Path) -> Sequence[Path]:
    """Its sound files, in order of name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS)


def counterpart(path: Path, of: Path) -> Path:
    """A file that must be there.

    Raises:
        DataError: it is not.
    """
    if not path.is_file():
        raise DataError(f"{of}: its counterpart {path} is missing.")
    return path


def inside(folder: Path, path: Path) -> str:
    """A path relative to the folder."""
    return path.relative_to(folder).as_posix()


def write_index(folder: Path, out: Path, split: str, *, noisy: bool = False) -> dict[str, Any]:
    """Write the index of a split; gives what it holds.

    Raises:
        DataError: see `rows_of`.
    """
    layout, task, rows = rows_of(folder, split, noisy=noisy)
    base = folder.resolve()
    for row in rows:
        for name in ("mix", "s1", "s2", "s3", "noisy", "clean"):
            if name in row:
                row[name] = (base / row[name]).as_posix()
    head = list(rows[0])
    write_table(out, head, [[row.get(name) for name in head] for row in rows])
    return {"index": str(out), "layout": layout, "task": task, "rows": len(rows)}


def voices_of(folder: Path, split: str) -> list[tuple[str, list[Path]]]:
    """Clean recordings of each speaker, for training: the sources, or the clean files. Empty if unknown."""
    try:
        _, task, rows = rows_of(folder, split)
    except DataError:
        return []
    groups: dict[str, list[Path]] = {}
    for number, row in enumerate(rows):
        if task == "enhance":
            groups.setdefault(row.get("speaker", str(number)), []).append(folder / row["clean"])
            continue
        for name in ("s1", "s2", "s3"):
            if name in row:
                who = row.get(f"{name}_speaker", f"{number} {name}")
                groups.setdefault(who, []).append(folder / row[name])
    return sorted(groups.items())
