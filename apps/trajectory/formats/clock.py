"""Clocks that begin again: a reboot starts a new stretch, a counter that rolls over goes on.

Rows are taken in the order of the file. A step back of more than two seconds (and of five steps) is no mere
disorder: sorting would lay two stretches into each other.
"""

import numpy as np

BACK_S, BACK_STEPS = 2.0, 5.0
"""A step back longer than both is a clock that begins again."""
APART_NS = 10 * 10**9
"""Between two stretches, where nobody knows how long it was."""
WEEKS_NS = 1024 * 604_800 * 10**9
"""GPS counts 1024 weeks; a receiver that lost count is so much too early."""
HOUR_NS = 3600 * 10**9
"""A local clock goes back by an hour when summer time ends."""
ROLLS = {
    604_800 * 10**9: "the GPS week ends",
    86_400 * 10**9: "the day ends",
    2**32 * 10**6: "a counter of milliseconds is full",
    2**32 * 10**3: "a counter of microseconds is full",
    WEEKS_NS: "GPS's count of weeks is full",
}
"""Nanoseconds after which a clock is at zero again -> why."""
NEAR = 0.02
"""How near to a roll-over a step back must be, in shares of it, and at most a minute."""


def going_on(ns: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Times that go on from stretch to stretch, and what is said about it.

    Args:
        ns: (n,) int64 in the order of the file.
    """
    steps = np.diff(ns)
    found = np.flatnonzero(np.abs(steps - WEEKS_NS) <= 60 * 10**9)
    if len(found) == 1:  # a receiver that finds the right date under way: the later date is right
        early = int(found[0]) + 1
        shifted, said = going_on(np.concatenate([ns[:early] + WEEKS_NS, ns[early:]]))
        return shifted, [f"the first {early} rows are 1024 weeks too early; the later date is right.", *said]
    forward = steps[steps > 0]
    if not len(forward):
        return ns, []
    usual = int(np.median(forward))
    least = max(int(BACK_S * 1e9), int(BACK_STEPS * usual))
    back = np.flatnonzero(steps < -least)
    # many steps back are rows in no order at all, not a clock that begins again
    if not len(back) or len(back) > max(3, len(ns) // 50):
        return ns, []
    shifts = np.zeros(len(ns), dtype=np.int64)
    said = []
    for place in back.tolist():
        rolled = next((size for size in ROLLS if rolls(-int(steps[place]), size)), None)
        if rolled is not None:
            shifts[place + 1 :] += rolled
            said.append(f"time passes row {place + 2} as {ROLLS[rolled]}; it goes on.")
        elif abs(int(steps[place]) + HOUR_NS) <= max(5 * usual, 10**9) and ns[place + 1] > HOUR_NS:
            shifts[place + 1 :] += HOUR_NS
            said.append(f"the clock goes back an hour at row {place + 2}, as summer time ends; it goes on.")
        else:
            newest = int((ns + shifts)[: place + 1].max())
            shifts[place + 1 :] = newest + APART_NS - int(ns[place + 1])
            said.append(f"the clock begins again at row {place + 2}: a new stretch, nothing is drawn across.")
    return ns + shifts, said


def rolls(step_back: int, size: int) -> bool:
    """Whether a step back is a roll-over of a counter of this size."""
    return 0 <= size - step_back <= min(NEAR * size, 60 * 10**9)
