"""Reading order of lines: down a column, columns from left to right (after Breuel 2003).

a comes before b if their columns overlap and a lies above; or if a lies left of b and no line between them
overlaps both. Pieces of one row are read along it only where both are short. Marginal notes, narrow beside
the text, come behind the line beside which they begin.
"""

from graphlib import CycleError, TopologicalSorter

import numpy as np

from vision.ocr.answer import Line

NOTE = 0.45
"""A column narrower than this share of the widest one, and of fewer lines, holds notes."""


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
    columns: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box[0]):
        met = [column for column in columns if any(shared(line, other) > 0.1 for other in column)]
        columns = [column for column in columns if column not in met]
        columns.append([*(other for column in met for other in column), line])
    if len(columns) < 2:
        return []
    widths = [float(np.percentile([width(line) for line in column], 80)) for column in columns]
    main = int(np.argmax([w * len(column) for w, column in zip(widths, columns, strict=True)]))
    return [
        line
        for w, column in zip(widths, columns, strict=True)
        if w < NOTE * widths[main] and 2 * len(column) <= len(columns[main])
        for line in column
    ]


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


def width(line: Line) -> float:
    return float(line.box[2] - line.box[0])


def height(line: Line) -> float:
    return float(line.box[3] - line.box[1])


def shared(a: Line, b: Line) -> float:
    """Horizontal overlap as a share of the narrower line."""
    both = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    return both / max(min(width(a), width(b)), 1.0)


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
            elif left[a, b] and not bridged(a, b, same_column, middle):
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
    done: list[int] = []
    ready = list(sorter.get_ready())
    while ready:
        ready.sort(key=lambda i: rank[i])
        # stay in the column of the last line where that is possible
        pick = next((i for i in ready if done and i in after(order, done[-1])), ready[0])
        ready.remove(pick)
        done.append(pick)
        sorter.done(pick)
        ready += sorter.get_ready()
    return done


def after(order: dict[int, set[int]], last: int) -> set[int]:
    """Lines that wait for `last`."""
    return {i for i, before in order.items() if last in before}
