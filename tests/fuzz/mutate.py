"""Structure first: cells, trees, headers and members are changed where a parser looks."""

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

CELLS = (
    *(
        "",
        " ",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e308",
        "-1e308",
        "1e400",
        "1e-400",
        "0x10",
        "1_000",
        "TRUE",
        "None",
    ),
    *(
        "null",
        "-",
        "--",
        "+1",
        "1.2.3",
        "1,5",
        "²",
        "\uff11\uff12",
        "\ufeff",
        "\x00",
        "\x1b[2J",
        "\u202e",
        "\u2028",
        "'",
    ),
    *(
        '"',
        '""',
        '"a',
        "#",
        "%",
        "=1+1",
        "9" * 400,
        "-" + "9" * 25,
        "9223372036854775808",
        "18446744073709551616",
    ),
    *("1e3", "1E+05", "007", "39e102", "2026-01-01", "2026-01-01T00:00:00Z", "2026-13-45T99:99", "a" * 3000),
    *(
        "<img src=x>",
        "&amp;",
        "../../etc",
        "é",
        "日本",
        "\udc80",
        "0",
        "1",
        "-1",
        "0.1",
        "100",
        "x",
        "t",
        "id",
    ),
)
"""What stands where a number or a name should."""
NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    65_535,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    10**30,
    1e308,
    1e-308,
)
"""Numbers at the borders of types."""


def spoiled(random: random.Random) -> str:
    """One odd cell."""
    return random.choice(CELLS)


def value(random: random.Random) -> Any:
    """One odd value of JSON."""
    return random.choice(
        (
            lambda: random.choice(NUMBERS),
            lambda: -random.choice(NUMBERS),
            lambda: float("nan"),
            lambda: spoiled(random).replace("\udc80", "\ud800"),
            lambda: None,
            lambda: True,
            list,
            dict,
            lambda: [random.choice(NUMBERS)] * random.randrange(5),
            lambda: {spoiled(random): 1},
            lambda: [[[[[[]]]]]],
        )
    )()


def tree(random: random.Random, root: Any, times: int = 1) -> Any:
    """A copy of a tree of JSON with so many places changed, added or taken away."""
    root = json.loads(json.dumps(root))
    for _ in range(times):
        places: list[tuple[Any, Any]] = []
        todo = [root]
        while todo:
            part = todo.pop()
            if isinstance(part, dict | list):
                keys = list(part) if isinstance(part, dict) else range(len(part))
                for key in keys:
                    places.append((part, key))
                    todo.append(part[key])
        if not places:
            return value(random)
        part, key = random.choice(places)
        act = random.random()
        if act < 0.6:
            part[key] = value(random)
        elif act < 0.75:
            part.pop(key)
        elif isinstance(part, dict):
            part[spoiled(random)] = value(random)
        else:
            part.insert(key, part[random.randrange(len(part))])
    return root


def as_json(random: random.Random, root: Any) -> bytes:
    """JSON of a tree, now and then with what JSON has not."""
    text = json.dumps(root, ensure_ascii=random.random() < 0.7)
    if random.random() < 0.05:
        text = text[: random.randrange(len(text) + 1)]
    if random.random() < 0.02:
        text = "[" * 5000 + text
    return text.encode("utf-8", "surrogatepass")


def table(random: random.Random, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A text table with a few things wrong: cells, names, separators, rows, comments."""
    separator = random.choice((",", ",", ",", ";", "\t", " ", "|"))
    lines = [[*map(str, row)] for row in rows]
    names = [*head]
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        act = random.random()
        row = random.choice(lines) if lines else []
        if act < 0.45 and row:
            row[random.randrange(len(row))] = spoiled(random)
        elif act < 0.6 and names:
            names[random.randrange(len(names))] = random.choice((*names, spoiled(random)))
        elif act < 0.68 and row:
            del row[random.randrange(len(row)) :]
        elif act < 0.74:
            row.append(spoiled(random))
        elif act < 0.8 and lines:
            lines.insert(random.randrange(len(lines)), [random.choice(("#", "# a", "", " ", '"', "%"))])
        elif act < 0.86 and lines:
            column = random.randrange(len(lines[0]) or 1)
            odd = spoiled(random)
            for one in lines:
                if column < len(one):
                    one[column] = odd
        elif act < 0.9:
            names = []
        elif act < 0.95:
            random.shuffle(lines)
        else:
            lines = lines[: random.randrange(3)]
    text = "\n".join(separator.join(line) for line in ([names] if names else []) + lines)
    end = random.choice(("", "\n", "\n", "\r\n", "\n\n"))
    data = (text + end).encode("utf-8", "surrogatepass")
    if random.random() < 0.03:
        data = text.encode("utf-16", "surrogatepass")
    return blocks(random, data) if random.random() < 0.05 else data


def blocks(random: random.Random, data: bytes) -> bytes:
    """Bytes with a border number put in, cut, doubled, or flipped."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = (
            random.randrange(len(data) + 1)
            if random.random() < 0.6
            else random.randrange(min(64, len(data)) + 1)
        )
        act = random.random()
        if act < 0.4:
            number = random.choice(NUMBERS[:13]) * random.choice((1, 1, -1))
            form = random.choice(("<i", "<q", ">i", "<H", "<B"))
            size = struct.calcsize(form)
            data[place : place + size] = (int(number) % (1 << (8 * size))).to_bytes(
                size, "big" if form[0] == ">" else "little"
            )
        elif act < 0.6:
            data[place : place + 1] = bytes([random.randrange(256)])
        elif act < 0.72:
            del data[place:]
        elif act < 0.85:
            end = place + random.randrange(40)
            data[place:place] = data[place:end]
        else:
            del data[place : place + random.randrange(1, 20)]
    return bytes(data)


def words(random: random.Random, text: str, times: int | None = None) -> bytes:
    """Text whose numbers, quoted values and names are replaced here and there, or lines moved."""
    for _ in range(random.choice((1, 1, 2, 3)) if times is None else times):
        act = random.random()
        if act < 0.75:
            found = list(re.finditer(r'"[^"\n]*"|[-+]?\d[\d.eE+-]*|\w+', text))
            if not found:
                break
            one = random.choice(found)
            new = str(random.choice(NUMBERS)) if random.random() < 0.4 else spoiled(random)
            quoted = one.group().startswith('"')
            text = text[: one.start()] + (f'"{new}"' if quoted else new) + text[one.end() :]
        else:
            lines = text.split("\n")
            place = random.randrange(len(lines))
            if act < 0.85:
                del lines[place]
            elif act < 0.93:
                lines.insert(place, random.choice(lines))
            else:
                del lines[place:]
            text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def members(
    random: random.Random, data: bytes, change: Callable[[random.Random, bytes], bytes] = blocks
) -> bytes:
    """A zip archive with a member changed, doubled, renamed or left out; or its own bytes changed."""
    if random.random() < 0.2:
        return blocks(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = random.randrange(len(parts))
    name, content = parts[place]
    act = random.random()
    if act < 0.7:
        parts[place] = name, change(random, content)
    elif act < 0.8:
        del parts[place]
    elif act < 0.9:
        parts[place] = random.choice(parts)[0], content
    else:
        parts[place] = name.replace("a", random.choice(("", "\x1b", "../", "b")), 1), content
    packed = io.BytesIO()
    seen = set()
    with zipfile.ZipFile(packed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in parts:
            if name not in seen:
                archive.writestr(name or "x", content)
            seen.add(name)
    return packed.getvalue()


def npy(random: random.Random, array: Any) -> bytes:
    """A `.npy` file whose header may lie."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, array)
    data = file.getvalue()
    if random.random() < 0.3:
        return blocks(random, data)
    if random.random() < 0.5:
        kind = random.choice(
            ("<f8", "<f4", "<i8", "<u2", "|b1", "<U5", "|S3", "|O", "<c16", "<M8[s]", "|V8", "x", "<f16")
        )
        shape = random.choice(
            ((), (0,), (3,), (2, 3), (2**40,), (2**32, 2**32), (-1,), (1,) * 40, (60, 4), (60, 3))
        )
        head = repr({"descr": kind, "fortran_order": random.random() < 0.2, "shape": shape})
        head = head.ljust(117) + "\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data[128:]
    return data


def safetensors(random: random.Random, data: bytes) -> bytes:
    """A safetensors file with its header, or the JSON in its metadata, changed at a place or two."""
    if random.random() < 0.1:
        return blocks(random, data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    about = header.get("__metadata__", {})
    if about and random.random() < 0.7:
        key = random.choice(list(about))
        try:
            inner = json.loads(about[key])
        except ValueError:
            inner = about[key]
        about[key] = json.dumps(tree(random, inner, random.choice((1, 1, 2))))
        header["__metadata__"] = about
    else:
        header = tree(random, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body
