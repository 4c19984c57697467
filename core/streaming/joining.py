"""Rows of a program that become one: a product that only a sum reads is never written.

    d = b * c;  e = a + d        e = a + b * c
    d = b * c;  e = sum(d)       e = b . c
"""

from bisect import bisect_right
from math import prod

from core.streaming import machine as do

Row = list[int]
Key = tuple[int, int]


def joined(rows: list[Row], rooms: dict[Key, int], kept: set[Key]) -> list[Row]:
    """The same program with fewer rows.

    Args:
        rooms: (memory, first number) -> how many, for all that rows write.
        kept: rooms that are read from outside.
    """
    readers: dict[Key, list[tuple[int, int]]] = {}
    starts = sorted_starts(rooms)
    for place, row in enumerate(rows):
        source = 1 - row[1] if row[0] in (do.UP, do.DOWN) else row[1]
        for slot in operands(row):
            readers.setdefault(room_of(starts, source, row[slot]), []).append((place, slot))
    products = {
        (row[1], row[do.TARGET]): place for place, row in enumerate(rows) if row[0] == do.MULTIPLY
    }
    gone: set[int] = set()
    for key, place in products.items():
        found = readers.get(key, [])
        if key in kept or len(found) != 1 or rooms[key] != prod(rows[place][2:6]):
            continue
        reader, slot = found[0]
        if rows[reader][slot] != key[1]:
            continue
        one = together(rows[place], rows[reader], slot)
        if one is not None:
            rows[reader] = one
            gone.add(place)
    return [row for place, row in enumerate(rows) if place not in gone]


def operands(row: Row) -> list[int]:
    """Where a row says which numbers it reads."""
    if row[0] in (do.PRODUCT, do.LESS):
        return [slot for slot in (do.FIRST, do.SECOND, do.THIRD) if row[slot] >= 0]
    if row[0] in (do.CHOOSE, do.GIVE, do.TAKE, do.FROM):
        return [do.FIRST, do.SECOND, do.THIRD]
    two = do.ADD <= row[0] < do.SIGMOID or row[0] in (do.GATHER, do.DOT, do.NORM)
    return [do.FIRST, do.SECOND] if two else [do.FIRST]


def sorted_starts(rooms: dict[Key, int]) -> list[list[int]]:
    """First numbers of all rooms of each memory."""
    return [sorted(at for memory, at in rooms if memory == which) for which in (0, 1)]


def room_of(starts: list[list[int]], memory: int, at: int) -> Key:
    """The room that holds a number."""
    return memory, starts[memory][bisect_right(starts[memory], at) - 1]


def together(product: Row, reader: Row, slot: int) -> Row | None:
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
        row = [do.DOT, *reader[1:6], *reader[do.TARGET : do.TARGET + 5], *b, *c]
        return row + [0] * (do.WIDTH - len(row))
    at = do.SECOND if slot == do.FIRST else do.FIRST
    own, target = strides(reader, at, shape), strides(reader, do.TARGET, shape)
    if own is None or target is None or target[3] != 1:
        return None
    kind = do.GIVE if reader[0] == do.ADD else do.FROM if slot == do.FIRST else do.TAKE
    return [kind, reader[1], *shape, reader[do.TARGET], *target, reader[at], *own, *b, *c]


def shared_shape(product: Row, reader: Row, slot: int) -> Row | None:
    """Four axes in which both can be walked through: those of one of them, the other lying flat in these."""
    if product[2:6] == reader[2:6]:
        return reader[2:6] if masked(reader, slot) == masked(product, do.TARGET) else None
    if prod(product[2:6]) != prod(reader[2:6]):
        return None
    dense = lying_flat(reader[2:6])
    if product[2:5] == [1, 1, 1] and masked(reader, slot) == masked_by(dense, reader[2:6]):
        return reader[2:6]
    return product[2:6] if reader[2:5] == [1, 1, 1] and reader[slot + 4] == 1 else None


def strides(row: Row, slot: int, shape: Row) -> Row | None:
    """Those of an operand in other axes of as many numbers; None if it does not lie flat."""
    if row[2:6] == shape:
        return row[slot + 1 : slot + 5]
    if row[2:5] != [1, 1, 1]:
        return None
    if row[slot + 4] == 0:
        return [0, 0, 0, 0]
    return lying_flat(shape) if row[slot + 4] == 1 else None


def lying_flat(shape: Row) -> Row:
    """Strides of a contiguous tensor."""
    return [prod(shape[axis + 1 :]) for axis in range(4)]


def masked(row: Row, slot: int) -> Row:
    """Strides of an operand, zero along axes of one."""
    return masked_by(row[slot + 1 : slot + 5], row[2:6])


def masked_by(found: Row, shape: Row) -> Row:
    return [step if size > 1 else 0 for step, size in zip(found, shape, strict=True)]
