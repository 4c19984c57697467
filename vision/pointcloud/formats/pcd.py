"""Point Cloud Data of PCL: ascii, binary, and binary_compressed (LZF, column after column)."""

import numpy as np

from core.errors import DataError
from vision.pointcloud.cloud import Cloud, cloud_of
from vision.pointcloud.formats.names import standard

KINDS = {"F": "f", "I": "i", "U": "u"}
KEYS = {
    "VERSION",
    "FIELDS",
    "COLUMNS",
    "SIZE",
    "TYPE",
    "COUNT",
    "WIDTH",
    "HEIGHT",
    "VIEWPOINT",
    "POINTS",
    "DATA",
}


def looks_like(data: bytes) -> bool:
    """Whether the content is PCD."""
    head = data[:256].lstrip()
    return head.startswith((b"# .PCD", b"#.PCD", b"VERSION ", b"FIELDS "))


def read_pcd(data: bytes, name: str) -> Cloud:
    """A PCD file; counts of the header are checked against the size of the file first.

    Raises:
        DataError: a header that is not one, or does not fit the data.
    """
    header, at = parse_header(data, name)
    fields = header.get("FIELDS") or header.get("COLUMNS")
    if not fields:
        raise DataError(f"{name}: the PCD header has no FIELDS.")
    sizes = numbers(header, "SIZE", name) or [4] * len(fields)
    kinds = header.get("TYPE") or ["F"] * len(fields)
    counts = numbers(header, "COUNT", name) or [1] * len(fields)
    if not len(fields) == len(sizes) == len(kinds) == len(counts):
        raise DataError(f"{name}: FIELDS, SIZE, TYPE and COUNT of the PCD header differ in length.")
    columns = []  # name, numpy type, count
    for field, size, kind, count in zip(fields, sizes, kinds, counts, strict=True):
        if (
            kind not in KINDS
            or size not in (1, 2, 4, 8)
            or (kind == "F" and size < 4)
            or not 0 < count <= 4096
        ):
            raise DataError(f"{name}: PCD field {field} has TYPE {kind}, SIZE {size}, COUNT {count}.")
        columns.append((field, np.dtype(f"<{KINDS[kind]}{size}"), count))
    row = sum(kind.itemsize * count for _, kind, count in columns)
    points = (numbers(header, "POINTS", name) or [0])[0]
    width, height = (numbers(header, "WIDTH", name) or [0])[0], (numbers(header, "HEIGHT", name) or [1])[0]
    if min(points, width, height) < 0:
        raise DataError(f"{name}: negative counts in the PCD header.")
    mode = (header.get("DATA") or [""])[0].lower()
    body = data[at:]
    if mode == "ascii":
        found = ascii_columns(body, columns, name)
        refuse_cut(len(found["x"]), points or width * height, name)
        return cloud_of(found, "pcd", name)
    if mode == "binary_compressed":
        body = decompress(body, row, name)
        refuse_cut(len(body) // row, points or width * height, name)
        points = len(body) // row
        found, place = {}, 0
        for field, kind, count in columns:
            length = kind.itemsize * count * points
            part = np.frombuffer(body[place : place + length], kind).reshape(points, count)
            place += length
            found[field] = part[:, 0]
        return cloud_of(standard(found, name), "pcd", name)
    if mode != "binary":
        raise DataError(
            f"{name}: PCD data is {mode or 'not named'}; ascii, binary and binary_compressed are read."
        )
    wanted = next((n for n in (points, width * height) if n and n * row <= len(body)), None)
    if wanted is None:
        if points == width * height == 0:
            return cloud_of(dict.fromkeys("xyz", np.zeros(0)), "pcd", name)
        raise DataError(
            f"{name}: {points or width * height} points of {row} bytes, but {len(body)} bytes follow."
        )
    layout = np.dtype(
        {
            "names": [f"{k}" for k in range(len(columns))],
            "formats": [(kind, (count,)) for _, kind, count in columns],
            "offsets": list(np.cumsum([0, *[kind.itemsize * count for _, kind, count in columns[:-1]]])),
            "itemsize": row,
        }
    )
    table = np.frombuffer(body[: wanted * row], layout)
    found = {field: table[f"{k}"][:, 0] for k, (field, _, _) in enumerate(columns)}
    return cloud_of(standard(found, name), "pcd", name)


def refuse_cut(rows: int, told: int, name: str) -> None:
    """Whether fewer rows follow than the header tells.

    Raises:
        DataError: they do.
    """
    if rows < told:
        raise DataError(f"{name}: {told} points are told, {rows} follow; is the file cut off?")


def parse_header(data: bytes, name: str) -> tuple[dict[str, list[str]], int]:
    """Lines up to DATA, and where the data begin.

    Raises:
        DataError: a line that is none of PCD, or no DATA.
    """
    header: dict[str, list[str]] = {}
    at = 0
    for _ in range(100):
        end = data.find(b"\n", at, at + 4096)
        if end < 0:
            break
        line = data[at:end].decode("ascii", "replace").strip()
        at = end + 1
        if not line or line.startswith("#"):
            continue
        words = line.split()
        if words[0].upper() not in KEYS:
            raise DataError(f"{name}: {words[0][:40]!r} is no line of a PCD header.")
        header[words[0].upper()] = words[1:]
        if words[0].upper() == "DATA":
            return header, at
    raise DataError(f"{name}: the PCD header has no DATA line.")


def numbers(header: dict[str, list[str]], key: str, name: str) -> list[int]:
    """Whole numbers of a header line.

    Raises:
        DataError: something else.
    """
    try:
        return [int(word) for word in header.get(key, [])]
    except ValueError as error:
        raise DataError(f"{name}: {key} of the PCD header is not whole numbers.") from error


def ascii_columns(body: bytes, columns: list[tuple[str, np.dtype, int]], name: str) -> dict[str, np.ndarray]:
    """Columns of rows of numbers as text, each under its field; of a field with many values the first.

    Raises:
        DataError: numbers that fill no whole rows.
    """
    width = sum(count for _, _, count in columns)
    values = np.array(body.split(), dtype=np.float64) if body.strip() else np.zeros(0)
    if len(values) % width:
        raise DataError(f"{name}: {len(values)} numbers are no rows of {width}.")
    table, found, place = values.reshape(-1, width), {}, 0
    for field, _, count in columns:
        found[field] = table[:, place]
        place += count
    return standard(found, name)


def decompress(body: bytes, row: int, name: str) -> bytes:
    """LZF after two lengths.

    Raises:
        DataError: lengths that cannot be, or a damaged stream.
    """
    if len(body) < 8:
        raise DataError(f"{name}: the compressed data is cut off.")
    packed, whole = (int(value) for value in np.frombuffer(body[:8], "<u4"))
    if packed > len(body) - 8 or whole > 1 << 31 or whole > 300 * max(packed, 1) or not row or whole % row:
        raise DataError(f"{name}: {packed} compressed bytes for {whole} do not fit the file.")
    from vision.pointcloud.formats.lzf import unpack

    out = np.zeros(whole, np.uint8)
    if unpack(np.frombuffer(body[8 : 8 + packed], np.uint8), out) != whole:
        raise DataError(f"{name}: the compressed data is damaged.")
    return out.tobytes()
