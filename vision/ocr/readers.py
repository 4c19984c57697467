"""Training lines in the tables and folders of others: PyLaia, IAM (ASCII and XML), ALTO and PAGE pages."""

from collections.abc import Iterable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

from core.errors import DataError
from vision.ocr.answer import Line
from vision.ocr.codec import clean
from vision.ocr.sample import PICTURES, Sample, pictures

SPACE = "<space>"
FOLDERS = ("", "images", "imgs", "img", "lines", "data", "data/lines", "words")
"""Where pictures of a table may lie, from its folder."""


def read_table(path: Path, *, strict: bool = False) -> list[Sample]:
    """Lines of a text table: IAM's `lines.txt` / `words.txt`, or PyLaia's `id sym sym <space> sym`.

    Raises:
        DataError: not text, neither of them, or no picture for any line.
    """
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    rows = [row for row in rows if row.strip() and not row.startswith("#")]
    if not rows:
        raise DataError(f"{path}: the table has no rows.")
    iam = [row for row in rows if len(row.split(" ")) >= 9 and row.split(" ")[1] in ("ok", "err")]
    if len(iam) >= 0.9 * len(rows):
        pairs = [iam_row(row) for row in iam]
    else:
        pairs = [pylaia_row(path, number, row) for number, row in enumerate(rows, 1)]
    return placed(path, pairs, strict=strict)


def iam_row(row: str) -> tuple[str, str]:
    """Name and text of a row of IAM: the text begins with the ninth field, `|` stands between words."""
    fields = row.split(" ", 8)
    return fields[0], fields[8].replace("|", " ")


def pylaia_row(path: Path, number: int, row: str) -> tuple[str, str]:
    """Name and text of a row of PyLaia: symbols with spaces between them."""
    name, *symbols = row.split()
    if any(len(symbol) > 1 and symbol != SPACE and not symbol.startswith("<") for symbol in symbols):
        raise DataError(
            f"{path} line {number}: neither a row of IAM nor symbols of PyLaia with spaces between."
        )
    return name, "".join(" " if symbol == SPACE else symbol for symbol in symbols)


def placed(path: Path, pairs: Sequence[tuple[str, str]], *, strict: bool = False) -> list[Sample]:
    """Samples of the names whose picture is found; a remark counts the others.

    Raises:
        DataError: no picture at all; with strict, one that is missing.
    """
    found, missing = [], []
    stems = by_stem(path.parent)
    for name, text in pairs:
        image = stems.get(Path(name).name) or stems.get(Path(name).stem)
        if image is None:
            missing.append(name)
        else:
            document = "-".join(name.split("-")[:2])
            found.append(Sample(image, clean(text), document=document, name=name))
    if not found:
        raise DataError(f"{path}: no picture of its {len(pairs)} lines lies beside it or in images/.")
    if missing:
        more = ", ..." if len(missing) > 5 else ""
        left_out(
            f"{path}: no picture for {len(missing)} lines: {', '.join(missing[:5])}{more}", strict=strict
        )
    return found


def left_out(remark: str, *, strict: bool) -> None:
    """Say what is left out of the data.

    Raises:
        DataError: strict, so nothing may be.
    """
    if strict:
        raise DataError(remark)
    from core.terminal import say

    say(remark)


def by_stem(folder: Path) -> dict[str, Path]:
    """Pictures in a folder and the usual ones below it, by their name without suffix."""
    found: dict[str, Path] = {}
    for name in FOLDERS:
        place = folder / name
        if place.is_dir():
            for image in place.rglob("*") if name else place.iterdir():
                if image.suffix.lower() in PICTURES:
                    found.setdefault(image.stem, image)
    return found


def read_xml(path: Path, *, strict: bool = False) -> list[Sample]:
    """Lines of one XML: a page of ALTO or PAGE (cut from its image), or a form of IAM.

    Raises:
        DataError: damaged, of another kind, or its image is missing.
    """
    from vision.ocr.formats import read_page_file
    from vision.ocr.formats.xml import local_name, parse

    root = parse(path)
    if local_name(root) == "form":
        return placed(path, iam_form(root), strict=strict)
    page = read_page_file(path)
    image = image_of(path, page.image)
    document = page.image or path.stem
    return [
        Sample(image, clean(line.text), document=document, name=f"{path.name}#{line.name}", line=line)
        for line in page.lines
        if line.text.strip() and outlined(line)
    ]


def outlined(line: Line) -> bool:
    """Whether a line has a polygon of some size."""
    x0, y0, x1, y1 = line.box
    return x1 - x0 >= 4 and y1 - y0 >= 4


def iam_form(root: Any) -> list[tuple[str, str]]:
    """Names and texts of the lines of a form; texts are escaped for HTML once more."""
    from vision.ocr.formats.xml import named

    return [(line.get("id", ""), unescape(line.get("text", ""))) for line in named(root, "line")]


def image_of(path: Path, told: str) -> Path:
    """The picture of an XML: as it says, else of the same stem.

    Raises:
        DataError: neither is there.
    """
    stem = path.name.removesuffix(".xml").removesuffix(".alto").removesuffix(".page")
    for place in (path.parent / told, path.parent / Path(told.replace("\\", "/")).name):
        if told and place.is_file():
            return place
    for image in pictures(path.parent):
        if image.stem in (stem, Path(told).stem):
            return image
    raise DataError(f"{path}: its image {told or '(no name)'} is missing, and there is none of its stem.")


def page_files(sources: Iterable[str | Path]) -> list[tuple[Path, Path]]:
    """XML pages of files and folders with their images.

    Raises:
        DataError: nothing there, or an image is missing.
    """
    found = []
    for source in sources:
        path = Path(source)
        files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: the folder holds no XML.")
        from vision.ocr.formats import read_page_file

        found += [(file, image_of(file, read_page_file(file).image)) for file in files]
    return found


def read_pages(folder: Path, *, strict: bool = False) -> list[Sample]:
    """Lines of all XML pages of a folder; pages that cannot be read are counted and named.

    Raises:
        DataError: no line at all; with strict, a page that cannot be read.
    """
    samples: list[Sample] = []
    bad: list[str] = []
    for path in sorted(folder.rglob("*.xml")):
        try:
            samples += read_xml(path, strict=strict)
        except DataError as error:
            if strict:
                raise
            bad.append(str(error))
    if not samples:
        raise DataError(bad[0] if bad else f"{folder}: its XML holds no line with text.")
    if bad:
        left_out(f"{folder}: {len(bad)} files are left out; the first: {bad[0]}", strict=strict)
    return samples
