"""Reading order of lines: down a column, columns from left to right (after Breuel 2003).

a comes before b if their columns overlap and a lies above; or if a lies left of b and no line between them
overlaps both. Pieces of one row are read along it only where both are short.
"""

from graphlib import CycleError, TopologicalSorter

import numpy as np

from vision.ocr.answer import Line


def reading_order(lines: list[Line], *, right_to_left: bool = False) -> list[Line]:
    """The lines as a person reads them."""
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
