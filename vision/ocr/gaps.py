"""Ink that no character of a reading covers: marked, and the line counts as less sure.

A character covers its frames and at most one typical width to each side. A run of columns with ink that lies
outside of all of them, and is wider than half a typical character, is a gap; the confidence of the line is
multiplied by the share of ink columns that are covered.
"""

from collections.abc import Sequence

import numpy as np

DARK, ROWS = 0.3, 3
"""A column has ink where so many rows are darker than this."""
WIDTH = 0.5
"""Of the median character, that a gap is at least wide."""


def gaps(
    ink: np.ndarray, middles: Sequence[float], edges: Sequence[float]
) -> tuple[tuple[tuple[float, float], ...], float]:
    """Spans in columns of prepared ink (H, W) of uint8, and the share of ink columns that is covered.

    Args:
        middles: columns of the characters.
        edges: between neighbours, one more than characters.
    """
    written = (ink > 255 * DARK).sum(0) >= ROWS
    if not written.any() or not len(middles):
        return (), 1.0
    widths = np.diff(edges)
    typical = float(np.median(widths)) if len(widths) > 1 else float(ink.shape[0]) / 2
    covered = np.zeros(len(written), bool)
    for middle, left, right in zip(middles, edges[:-1], edges[1:], strict=True):
        a, b = max(left, middle - 1.5 * typical), min(right, middle + 1.5 * typical)
        covered[max(0, int(a)) : max(0, int(np.ceil(b)))] = True
    open_ink = written & ~covered
    found = []
    change = np.flatnonzero(np.diff(np.r_[0, open_ink.astype(np.int8), 0]))
    for a, b in zip(change[::2].tolist(), change[1::2].tolist(), strict=True):
        if b - a > WIDTH * typical:
            found.append((float(a), float(b)))
    missed = sum(b - a for a, b in found)
    return tuple(found), float(1 - missed / max(written.sum(), 1))
