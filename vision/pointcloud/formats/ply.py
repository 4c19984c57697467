"""PLY: ascii and both byte orders; lists before the vertices are skipped."""

import numpy as np

from core.errors import DataError
from vision.pointcloud.cloud import Cloud, cloud_of
from vision.pointcloud.formats.names import standard

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_ply(data: bytes, name: str) -> Cloud:
    """The vertices of a PLY file.

    Raises:
        DataError: a header that is not one, or more elements than the file can hold.
    """
    end = data.find(b"\nend_header", 0, 1 << 16)
    stop = data.find(b"\n", end + 1) if end >= 0 else -1
    if stop < 0:
        raise DataError(f"{name}: the PLY header has no end.")
    order, elements = parse(data[:end].decode("ascii", "replace"), name)
    body = data[stop + 1 :]
    if order == "ascii":
        return cloud_of(ascii_vertices(body, elements, name), "ply", name)
    sign, at = "<" if order == "binary_little_endian" else ">", 0
    for element, count, properties in elements:
        if element == "vertex":
            layout = np.dtype([(f"{k}", sign + kind) for k, (_, kind, _) in enumerate(properties)])
            if count * layout.itemsize > len(body) - at:
                raise DataError(f"{name}: {count} vertices need more bytes than the file has.")
            table = np.frombuffer(body, layout, count, at)
            found = {label: table[f"{k}"] for k, (label, _, _) in enumerate(properties)}
            return cloud_of(standard(found, name), "ply", name)
        at = skip(body, at, count, properties, sign, name)
    raise DataError(f"{name}: the PLY file has no vertices.")


Property = tuple[str, str, str | None]
"""Name, type of the value, type of the length of a list."""


def parse(text: str, name: str) -> tuple[str, list[tuple[str, int, list[Property]]]]:
    """Format and elements of a header.

    Raises:
        DataError: a line that is none of PLY, a format that is unknown, or vertices with lists.
    """
    order, elements = "", []
    for line in text.splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                order = words[1]
            elif words[0] == "element":
                elements.append((words[1], int(words[2]), []))
                if elements[-1][1] < 0:
                    raise ValueError("a negative count")
            elif words[0] == "property" and words[1] == "list":
                elements[-1][2].append((words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[0] == "property":
                elements[-1][2].append((words[2], TYPES[words[1]], None))
            else:
                raise ValueError("an unknown word")
        except (IndexError, KeyError, ValueError) as error:
            raise DataError(f"{name}: {line.strip()[:60]!r} is no line of a PLY header.") from error
    if any(kind for element, _, parts in elements if element == "vertex" for _, _, kind in parts):
        raise DataError(f"{name}: vertices with lists are not read.")
    if order not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise DataError(f"{name}: PLY format {order or 'not named'} is not known.")
    return order, elements


def skip(body: bytes, at: int, count: int, properties: list[Property], sign: str, name: str) -> int:
    """Where the next element begins.

    Raises:
        DataError: beyond the end of the file.
    """
    if all(kind is None for _, _, kind in properties):
        return at + count * sum(np.dtype(kind).itemsize for _, kind, _ in properties)
    for _ in range(count):
        for _, value, length in properties:
            if at >= len(body):
                raise DataError(f"{name}: a list runs past the end of the file.")
            if length is None:
                at += np.dtype(value).itemsize
            else:
                size = np.dtype(sign + length)
                many = int(np.frombuffer(body[at : at + size.itemsize], size)[0])
                at += size.itemsize + max(0, many) * np.dtype(value).itemsize
    return at


def ascii_vertices(
    body: bytes, elements: list[tuple[str, int, list[Property]]], name: str
) -> dict[str, np.ndarray]:
    """Columns of vertices as text, a line each.

    Raises:
        DataError: fewer lines or numbers than told, or no vertices.
    """
    lines, at = body.split(b"\n"), 0
    for element, count, properties in elements:
        if count > len(lines) - at:
            raise DataError(f"{name}: {count} of {element} need more lines than the file has.")
        if element == "vertex":
            rows = [line.split() for line in lines[at : at + count]]
            if any(len(row) < len(properties) for row in rows):
                raise DataError(f"{name}: a vertex has fewer than {len(properties)} numbers.")
            table = np.array([row[: len(properties)] for row in rows], dtype=np.float64)
            table = table.reshape(-1, len(properties))
            return standard({label: table[:, k] for k, (label, _, _) in enumerate(properties)}, name)
        at += count
    raise DataError(f"{name}: the PLY file has no vertices.")
