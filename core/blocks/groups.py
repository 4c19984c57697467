"""Which rows of different length run together: each group runs whole to its own longest row.

A call costs what its tokens cost, padding included, and something that does not depend on them; so more
groups mean less padding and more calls. Rows are sorted by length and cut where the sum is least.
"""

import numpy as np

from core.parts.ragged import Rows

CALL = 1 << 16
"""Numbers (tokens times width) that cost as much as one more call and what sorts its rows, on a CPU."""
PLACES = 32
"""Places between rows where a batch may be cut."""


def grouped(lengths: list[int], width: int, *, causal: bool, most: int) -> list[Rows]:
    """Groups of rows (place, length) by falling length; rows without tokens are in none.

    Units that are not causal run rows of equal length only, as if there were no padding. One
    group of all rows keeps their order.
    """
    rows = [(place, length) for place, length in enumerate(lengths) if length]
    if causal and (most == 1 or not rows):
        return [tuple(rows)] if rows else []
    falling = sorted(rows, key=lambda row: -row[1])
    ordered = [length for _, length in falling]
    if not causal:
        cuts = [i for i, length in enumerate(ordered) if i == 0 or length != ordered[i - 1]]
    else:
        cuts = cheapest(ordered, CALL / max(1, width), most)
    if len(cuts) == 1:
        return [tuple(rows)]
    return [tuple(falling[first:stop]) for first, stop in zip(cuts, [*cuts[1:], len(falling)], strict=True)]


def cheapest(ordered: list[int], call: float, most: int) -> list[int]:
    """First rows of at most `most` groups of falling lengths; a padded token costs 1, a group `call`."""
    starts = [i for i, length in enumerate(ordered) if i == 0 or length != ordered[i - 1]]
    if ordered[0] * len(ordered) - sum(ordered) <= call:
        return [0]
    if len(starts) > PLACES:
        starts = [starts[i * len(starts) // PLACES] for i in range(PLACES)]
    stops = np.array([*starts[1:], len(ordered)])
    tall = np.array([ordered[start] for start in starts])
    rows = stops - np.array(starts)[:, None]
    cost = np.where(rows > 0, call + tall[:, None] * rows, np.inf)  # of a group from starts[i] to stops[j]
    least, origins = cost[0], []
    for _ in range(most - 1):
        ways = np.concatenate([[np.inf], least[:-1]])[:, None] + cost
        ways[0] = cost[0]
        origin = ways.argmin(0)
        origins.append(origin)
        least = ways.min(0)
    cuts, j = [], len(starts) - 1
    for origin in reversed(origins):
        i = int(origin[j])
        cuts.append(starts[i])
        if i == 0:
            return cuts[::-1]
        j = i - 1
    return [0, *cuts[::-1]]
