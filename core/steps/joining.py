"""Rows of a program that become one: a product that only a sum reads is never written.

d = b * c;  e = a + d        e = a + b * c
d = b * c;  e = sum(d)       e = b . c
"""

from bisect import bisect_right
from math import prod

from core.steps import codes as do

Codes = list[int]
Key = tuple[int, int]


def joined(rows: list[Codes], rooms: dict[Key, int], kept: set[Key]) -> list[Codes]:
    """The same program with fewer rows.

    Args:
        rooms: (memory, first number) -> how many, for all that rows write.
        kept: rooms that are read from outside.
    """
    starts = sorted_starts(rooms)
    for step in (with_their_sums, as_dots, without_copies):
        rows = step(rows, Rooms(rooms, starts, kept, rows))
    return rows


class Rooms:
    """Who writes and who reads the rooms of a program."""

    def __init__(
        self, sizes: dict[Key, int], starts: list[list[int]], kept: set[Key], rows: list[Codes]
    ) -> None:
        self.sizes, self.starts, self.kept = sizes, starts, kept
        self.readers: dict[Key, list[tuple[int, int]]] = {}
        self.writers: dict[Key, list[int]] = {}
        for place, row in enumerate(rows):
            for slot in operands(row):
                self.readers.setdefault(room_of(starts, source(row), row[slot]), []).append((place, slot))
            self.writers.setdefault(room_of(starts, row[1], row[do.TARGET]), []).append(place)

    def only_reader(self, rows: list[Codes], place: int) -> tuple[int, int] | None:
        """The one row and operand that read all that a row writes, if nobody else does."""
        row = rows[place]
        key = (row[1], row[do.TARGET])
        found = self.readers.get(key, [])
        whole = self.sizes.get(key) == prod(row[2:6]) and len(self.writers[key]) == 1
        if key in self.kept or len(found) != 1 or not whole or rows[found[0][0]][found[0][1]] != key[1]:
            return None
        return found[0]


def with_their_sums(rows: list[Codes], rooms: Rooms) -> list[Codes]:
    """Products go into the sums that alone read them."""
    gone: set[int] = set()
    for place, row in enumerate(rows):
        reader = rooms.only_reader(rows, place) if row[0] == do.MULTIPLY else None
        one = None if reader is None else together(row, rows[reader[0]], reader[1])
        if reader is not None and one is not None:
            rows[reader[0]] = one
            gone.add(place)
    return [row for place, row in enumerate(rows) if place not in gone]


def as_dots(rows: list[Codes], rooms: Rooms) -> list[Codes]:
    """sum(b c + d e) = b . c + d . e, in two rows without anything between."""
    made: dict[int, list[Codes]] = {}
    for place, row in enumerate(rows):
        reader = rooms.only_reader(rows, place) if row[0] in (do.GIVE, do.TAKE, do.FROM) else None
        if reader is None or rows[reader[0]][0] != do.SUM:
            continue
        first = room_of(rooms.starts, row[1], row[do.FIRST])
        writers = rooms.writers.get(first, [])
        if len(writers) != 1 or rows[writers[0]][0] != do.MULTIPLY:
            continue
        if rooms.only_reader(rows, writers[0]) != (place, do.FIRST):
            continue
        total, product = rows[reader[0]], rows[writers[0]]
        one = together(product, total, do.FIRST)
        two = together([do.MULTIPLY, *row[1 : do.FIRST], *row[do.SECOND :], 0, 0, 0, 0, 0], total, do.FIRST)
        if one is None or two is None or masked(product, do.TARGET) != masked(row, do.FIRST):
            continue
        one, two = (two, one) if row[0] == do.FROM else (one, two)
        two[0], two[do.THIRD] = do.DOT if row[0] == do.GIVE else do.LESS_DOT, total[do.TARGET]
        made[place] = made[writers[0]] = []
        made[reader[0]] = [one, two]
    return [one for place, row in enumerate(rows) for one in made.get(place, [row])]


def without_copies(rows: list[Codes], rooms: Rooms) -> list[Codes]:
    """What is only written to be copied is written where the copy goes."""
    moved: dict[Key, int] = {}
    hosts: set[Key] = set()
    gone: set[int] = set()
    for place, row in enumerate(rows):
        key, host = (row[1], row[do.FIRST]), room_of(rooms.starts, row[1], row[do.TARGET])
        flat = row[2:5] == [1, 1, 1] and row[do.TARGET + 4] == row[do.FIRST + 4] == 1
        if row[0] != do.COPY or not flat or rooms.sizes.get(key) != row[5]:
            continue
        writers = rooms.writers.get(key, [])
        if not writers or max(writers) > place or key in rooms.kept:
            continue
        if key in moved or key in hosts or host in moved:  # a copy of a copy stays
            continue
        moved[key] = row[do.TARGET] - row[do.FIRST]
        hosts.add(host)
        gone.add(place)
    for row in rows:
        for slot, memory in [(do.TARGET, row[1]), *((slot, source(row)) for slot in operands(row))]:
            row[slot] += moved.get(room_of(rooms.starts, memory, row[slot]), 0)
    return [row for place, row in enumerate(rows) if place not in gone]


def source(row: Codes) -> int:
    """Which memory a row reads."""
    return 1 - row[1] if row[0] in (do.UP, do.DOWN) else row[1]


def operands(row: Codes) -> list[int]:
    """Where a row says which numbers it reads."""
    if row[0] in (do.PRODUCT, do.LESS):
        return [slot for slot in (do.FIRST, do.SECOND, do.THIRD) if row[slot] >= 0]
    if row[0] in (do.CHOOSE, do.GIVE, do.TAKE, do.FROM):
        return [do.FIRST, do.SECOND, do.THIRD]
    if row[0] in (do.DOT, do.LESS_DOT):
        return [do.FIRST, do.SECOND, *([do.THIRD] if row[do.THIRD] >= 0 else [])]
    two = do.ADD <= row[0] < do.SIGMOID or row[0] in (do.GATHER, do.NORM)
    return [do.FIRST, do.SECOND] if two else [do.FIRST]


def sorted_starts(rooms: dict[Key, int]) -> list[list[int]]:
    """First numbers of all rooms of each memory."""
    return [sorted(at for memory, at in rooms if memory == which) for which in (0, 1)]


def room_of(starts: list[list[int]], memory: int, at: int) -> Key:
    """The room that holds a number."""
    return memory, starts[memory][bisect_right(starts[memory], at) - 1]


def together(product: Codes, reader: Codes, slot: int) -> Codes | None:
    """One row for both, or None if there is none."""
    shape = shared_shape(product, reader, slot)
    if shape is None or reader[0] not in (do.ADD, do.SUBTRACT, do.SUM):
        return None
    first, second = (strides(product, at, shape) for at in (do.FIRST, do.SECOND))
    if first is None or second is None:
        return None
    b, c = [product[do.FIRST], *first], [product[do.SECOND], *second]
    if reader[0] == do.SUM:
        if shape != reader[2:6] or first[3] != 1 or second[3] != 1:
            return None
        return [do.DOT, *reader[1:6], *reader[do.TARGET : do.TARGET + 5], *b, *c, -1, 0, 0, 0, 0]
    at = do.SECOND if slot == do.FIRST else do.FIRST
    own, target = strides(reader, at, shape), strides(reader, do.TARGET, shape)
    if own is None or target is None or target[3] != 1:
        return None
    kind = do.GIVE if reader[0] == do.ADD else do.FROM if slot == do.FIRST else do.TAKE
    return [kind, reader[1], *shape, reader[do.TARGET], *target, reader[at], *own, *b, *c]


def shared_shape(product: Codes, reader: Codes, slot: int) -> Codes | None:
    """Four axes in which both can be walked through: those of one of them, the other lying flat in these."""
    if product[2:6] == reader[2:6]:
        return reader[2:6] if masked(reader, slot) == masked(product, do.TARGET) else None
    if prod(product[2:6]) != prod(reader[2:6]):
        return None
    dense = lying_flat(reader[2:6])
    if product[2:5] == [1, 1, 1] and masked(reader, slot) == masked_by(dense, reader[2:6]):
        return reader[2:6]
    return product[2:6] if reader[2:5] == [1, 1, 1] and reader[slot + 4] == 1 else None


def strides(row: Codes, slot: int, shape: Codes) -> Codes | None:
    """Those of an operand in other axes of as many numbers; None if it does not lie flat."""
    if row[2:6] == shape:
        return row[slot + 1 : slot + 5]
    if row[2:5] != [1, 1, 1]:
        return None
    if row[slot + 4] == 0:
        return [0, 0, 0, 0]
    return lying_flat(shape) if row[slot + 4] == 1 else None


def lying_flat(shape: Codes) -> Codes:
    """Strides of a contiguous tensor."""
    return [prod(shape[axis + 1 :]) for axis in range(4)]


def masked(row: Codes, slot: int) -> Codes:
    """Strides of an operand, zero along axes of one."""
    return masked_by(row[slot + 1 : slot + 5], row[2:6])


def masked_by(found: Codes, shape: Codes) -> Codes:
    return [step if size > 1 else 0 for step, size in zip(found, shape, strict=True)]
