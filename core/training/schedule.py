"""Learning-rate schedules as plain functions of the step: nothing to save, nothing to restore.

What the peak rate is multiplied with at step s (from 0) of n; p is the fraction done after a linear warm-up
and, of linear and cosine, the steps held at the peak:

    constant   1
    linear     floor + (1 - floor) (1 - p)
    cosine     floor + (1 - floor) (1 + cos(pi p)) / 2
    step       the product of the factors of all milestones that s / n has reached, at least floor
    plateau    1; the loop multiplies it with the heights that a run has come down by
    one_cycle  cosine from start_factor to 1 over the warm-up, on to end_factor; momentum the other way
               (Smith and Topin 2017, arXiv 1708.07120, in the form of torch's OneCycleLR)
"""

import math

from core.training.options import ScheduleOptions


def factor(schedule: ScheduleOptions | str, step: int, total: int, warmup: float | None = None) -> float:
    """What the peak rate is multiplied with at `step` (0-based) of `total`.

    Raises:
        ConfigError: unknown name.
    """
    if isinstance(schedule, str):
        schedule = ScheduleOptions(schedule, warmup=warmup)  # pyright: ignore[reportArgumentType]
    if schedule.name == "one_cycle":
        return cycle(schedule, step, total, schedule.start_factor, 1.0, schedule.end_factor)
    rise = math.ceil(schedule.rise * total)
    if step < rise:
        return (step + 1) / rise
    held = rise + math.ceil(schedule.hold * total)
    done = min(1.0, max(0, step - held) / max(1, total - held))
    match schedule.name:
        case "linear":
            return schedule.floor + (1 - schedule.floor) * (1 - done)
        case "cosine":
            return blend(1.0, schedule.floor, done)
        case "step" if schedule.milestones:
            reached = (part for at, part in schedule.milestones if step >= at * total)
            return max(schedule.floor, math.prod(reached))
        case "step":
            return max(schedule.floor, 0.1 ** min(2, math.floor(3 * done)))
    return 1.0


def momentum(schedule: ScheduleOptions, step: int, total: int) -> float | None:
    """The momentum at a step; None: the optimiser's own."""
    if schedule.name != "one_cycle" or schedule.momentum is None:
        return None
    outer, peak = schedule.momentum
    return cycle(schedule, step, total, outer, peak, outer)


def cycle(
    schedule: ScheduleOptions, step: int, total: int, first: float, middle: float, last: float
) -> float:
    """From first to middle over the warm-up and on to last, each along half a cosine."""
    top = schedule.rise * total - 1
    if top <= 0:  # no step to rise in
        return blend(middle, last, step / max(1, total))
    if step <= top:
        return blend(first, middle, step / top)
    return blend(middle, last, min(1.0, (step - top) / (total - 1 - top)))


def blend(start: float, end: float, done: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
