"""Reading order of lines: down a column, columns from left to right (after Breuel 2003).

a comes before b if their columns overlap and a lies above; or if a lies left of b and no line between them
overlaps both. Pieces of one row are read along it only where both are short. Marginal notes, narrow beside
the text, come behind the line beside which they begin.
"""

from graphlib import CycleError, TopologicalSorter

import numpy as np
from scipy.sparse.csgraph import connected_components

from vision.ocr.answer import Line

NOTE = 0.45
"""A column narrower than this share of the widest one, and of fewer lines, holds notes."""


CROWDED = 300
"""Lines above which a page is noise, or a list: notes and headings between columns are not looked for."""


def reading_order(lines: list[Line], *, right_to_left: bool = False) -> list[Line]:
    """The lines as a person reads them."""
    notes = marginal(lines)
    order = in_columns([line for line in lines if line not in notes], right_to_left=right_to_left)
    for group in blocks(notes):
        start = group[0].box[1]
        beside = [place for place, line in enumerate(order) if line.box[1] <= start + height(group[0]) / 2]
        near = max(beside, key=lambda place: order[place].box[1], default=-1)
        order[near + 1 : near + 1] = group
    return order


def marginal(lines: list[Line]) -> list[Line]:
    """Lines beside the text that are notes: their column is narrow and overlaps that of no other line."""
    if not 2 <= len(lines) <= CROWDED:
        return []
    boxes = np.array([line.box for line in lines], float)
    x0, x1 = boxes[:, 0], boxes[:, 2]
    wide = x1 - x0
    both = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    met = both > 0.1 * np.maximum(np.minimum(wide[:, None], wide), 1)
    count, owner = connected_components(met, directed=False)
    if count < 2:
        return []
    widths = np.array([np.percentile(wide[owner == column], 80) for column in range(count)])
    sizes = np.bincount(owner, minlength=count)
    main = int(np.argmax(widths * sizes))
    notes = (widths < NOTE * widths[main]) & (2 * sizes <= sizes[main])
    return [line for line, column in zip(lines, owner.tolist(), strict=True) if notes[column]]


def blocks(notes: list[Line]) -> list[list[Line]]:
    """Notes whose lines follow closely under each other are one."""
    found: list[list[Line]] = []
    for line in sorted(notes, key=lambda line: line.box[1]):
        near = next(
            (
                part
                for part in found
                if shared(line, part[-1]) > 0.1 and line.box[1] - part[-1].box[3] < height(part[-1])
            ),
            None,
        )
        if near is None:
            found.append([line])
        else:
            near.append(line)
    return found


def height(line: Line) -> float:
    return float(line.box[3] - line.box[1])


def shared(a: Line, b: Line) -> float:
    """Horizontal overlap as a share of the narrower line."""
    both = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    return both / max(min(a.box[2] - a.box[0], b.box[2] - b.box[0]), 1.0)


def in_columns(lines: list[Line], *, right_to_left: bool = False) -> list[Line]:
    """Lines without notes."""
    if len(lines) < 2:
        return list(lines)
    boxes = np.array([line.box for line in lines], float)
    if right_to_left:
        boxes[:, [0, 2]] = -boxes[:, [2, 0]]
    x0, y0, x1, y1 = boxes.T
    middle = (y0 + y1) / 2
    width = x1 - x0
    overlap = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    share = overlap / np.maximum(np.minimum(width[:, None], width), 1)
    same_column = share > 0.1
    column = np.percentile(width, 80)
    tall = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    same_row = tall / np.maximum(np.minimum((y1 - y0)[:, None], y1 - y0), 1) > 0.6
    short = width < column / 2
    along = same_row & (share < 0.1) & short[:, None] & short
    above = middle[:, None] < middle
    left = x1[:, None] <= x0 + 0.1 * np.minimum(width[:, None], width)
    order: dict[int, set[int]] = {i: set() for i in range(len(lines))}
    for a in range(len(lines)):
        for b in range(len(lines)):
            if a == b:
                continue
            if along[a, b]:
                if left[a, b]:
                    order[b].add(a)
            elif same_column[a, b]:
                if above[a, b]:
                    order[b].add(a)
            elif left[a, b] and (len(lines) > CROWDED or not bridged(a, b, same_column, middle)):
                order[b].add(a)
    rank = {i: (float(x0[i]), float(middle[i])) for i in range(len(lines))}
    return [lines[i] for i in sorted_by(order, rank, middle)]


def bridged(a: int, b: int, same_column: np.ndarray, middle: np.ndarray) -> bool:
    """Whether a line between a and b in height lies in the columns of both, such as a heading."""
    low, high = min(middle[a], middle[b]), max(middle[a], middle[b])
    between = (middle > low) & (middle < high) & same_column[a] & same_column[b]
    between[[a, b]] = False
    return bool(between.any())


def sorted_by(
    order: dict[int, set[int]], rank: dict[int, tuple[float, float]], middle: np.ndarray
) -> list[int]:
    """A topological order, ties by x then y; a circle (slanted columns) is broken by height."""
    try:
        sorter = TopologicalSorter(order)
        sorter.prepare()
    except CycleError:
        return [int(i) for i in np.argsort(middle, kind="stable")]
    followers: dict[int, set[int]] = {i: set() for i in order}
    for i, before in order.items():
        for other in before:
            followers[other].add(i)
    done: list[int] = []
    ready = list(sorter.get_ready())
    while ready:
        # stay in the column of the last line where that is possible
        near = followers[done[-1]] if done else set()
        pick = min((i for i in ready if i in near), key=lambda i: rank[i], default=None)
        pick = min(ready, key=lambda i: rank[i]) if pick is None else pick
        ready.remove(pick)
        done.append(pick)
        sorter.done(pick)
        ready += sorter.get_ready()
    return done
