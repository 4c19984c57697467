"""Files -> lines with their text: an index CSV, pictures with `.gt.txt`, or what `readers` knows."""

import csv
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.errors import DataError
from core.tables import delimiter_of
from vision.ocr.codec import clean
from vision.ocr.readers import left_out, read_pages, read_table, read_xml
from vision.ocr.sample import Sample, pictures


def read_samples(
    sources: Iterable[str | Path], split: str | None = None, *, strict: bool = False
) -> list[Sample]:
    """Samples of index files (CSV with columns image and text), folders of `x.png` with `x.gt.txt`, ALTO and
    PAGE pages (files or folders), of IAM's files and PyLaia's tables.

    Tables and folders leave out lines whose picture is missing, and say so.

    Raises:
        DataError: nothing there, a column is missing, or no sample in the split; with strict, also where a
            table or folder would leave something out.
    """
    samples: list[Sample] = []
    for source in sources:
        found = [Path(name) for name in sorted(glob.glob(str(source)))] or [Path(source)]
        for path in found:
            if path.is_dir() and (path / "index.csv").is_file():
                samples += read_index(path / "index.csv")
            elif path.is_dir():
                samples += read_folder(path, strict=strict)
            elif path.suffix.lower() == ".xml":
                samples += read_xml(path, strict=strict)
            elif path.suffix.lower() == ".txt":
                samples += read_table(path, strict=strict)
            else:
                samples += read_index(path)
    if split is not None:
        kept = [sample for sample in samples if sample.split == split]
        if not kept:
            there = ", ".join(sorted({sample.split for sample in samples if sample.split})) or "none"
            raise DataError(f"no row with split {split!r}; there are {there}.")
        return kept
    return samples


def read_folder(path: Path, *, strict: bool = False) -> list[Sample]:
    """A folder of pairs, of XML pages, or of IAM's tables.

    Raises:
        DataError: nothing of these.
    """
    for table in (path / "lines.txt", path / "ascii" / "lines.txt"):
        if table.is_file():
            return read_table(table, strict=strict)
    if any(paired(image) is not None for image in pictures(path)):
        return read_pairs(path)
    if next(path.rglob("*.xml"), None) is not None:
        return read_pages(path, strict=strict)
    return read_pairs(path)


def paired(image: Path) -> Path | None:
    """The text beside a picture."""
    return next((p for p in (image.with_suffix(".gt.txt"), image.with_suffix(".txt")) if p.is_file()), None)


def read_index(path: Path) -> list[Sample]:
    """Rows of a CSV with columns image and text; images lie beside it or in `images/` beside it.

    Raises:
        DataError: unreadable, empty, or a column is missing.
    """
    samples = []
    for number, row in enumerate(table_rows(path, ("image", "text")), 2):
        if row["image"] is None or row["text"] is None:
            raise DataError(f"{path} line {number}: fewer values than columns.")
        samples.append(
            Sample(
                image=beside(path.parent, row["image"].strip()),
                text=clean(row["text"]),
                split=(row.get("split") or "").strip(),
                corpus=(row.get("corpus") or "").strip(),
                document=(row.get("document") or "").strip(),
                name=row["image"],
            )
        )
    return samples


def read_pictures(path: Path) -> list[tuple[Path, str]]:
    """The images of a CSV with a column image, and their names there, each once.

    Raises:
        DataError: unreadable, empty, or there is no such column.
    """
    names = dict.fromkeys((row["image"] or "").strip() for row in table_rows(path, ("image",)))
    return [(beside(path.parent, name), name) for name in names if name]


def table_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV that has these columns.

    Raises:
        DataError: unreadable, empty, or a column is missing.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter_of(file.readline()))
            file.seek(0)
            names = reader.fieldnames or []
            missing = [name for name in columns if name not in names]
            if missing:
                raise DataError(
                    f"{path}: no column {' and '.join(missing)}; it has {', '.join(names) or 'none'}."
                )
            rows = list(reader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    if not rows:
        raise DataError(f"{path}: the table has no rows.")
    return rows


NAMED = 5
"""Missing images that are named; the rest is counted."""


def present(samples: Sequence[Sample], *, strict: bool = False) -> list[Sample]:
    """The samples whose image is there, for training; a remark counts and names the others.

    Raises:
        DataError: none is there; with strict, one is missing.
    """
    missing = [sample for sample in samples if not sample.image.is_file()]
    kept = [sample for sample in samples if sample.image.is_file()]
    if missing:
        more = ", ..." if len(missing) > NAMED else ""
        names = ", ".join(str(sample.image) for sample in missing[:NAMED]) + more
        left_out(f"{len(missing)} of {len(samples)} images are missing: {names}", strict=strict or not kept)
    return kept


def beside(folder: Path, name: str) -> Path:
    """Where an image of an index lies: beside it, or in `images/` beside it."""
    for place in (folder / name, folder / "images" / name):
        if place.is_file():
            return place
    return folder / name


def read_pairs(folder: Path) -> list[Sample]:
    """Pictures of a folder that have a text of the same stem beside them.

    Raises:
        DataError: no pair.
    """
    samples = []
    for path in pictures(folder):
        text = paired(path)
        if text is not None:
            said = text.read_text(encoding="utf-8-sig", errors="replace")
            samples.append(Sample(path, clean(said), document=path.stem, name=path.name))
    if not samples:
        raise DataError(f"{folder}: neither index.csv nor pictures with .gt.txt beside them.")
    return samples


def described(samples: Sequence[Sample]) -> str:
    """How many samples of which corpora, in words."""
    counts: dict[str, int] = {}
    for sample in samples:
        name = sample.corpus or sample.image.parent.name
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in counts.items())
