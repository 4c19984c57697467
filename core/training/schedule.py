"""Learning-rate schedules as plain functions of the step: nothing to save, nothing to restore."""

import math

from core.errors import ConfigError


def factor(name: str, step: int, total: int, warmup: float) -> float:
    """What the peak rate is multiplied with at `step` (0-based) of `total`.

    With p the fraction done after a linear warm-up over `warmup * total` steps:

        constant   1
        linear     1 - p
        cosine     (1 + cos(pi p)) / 2
        step       1/10 of the rate after each third: 1, 0.1, 0.01
        one_cycle  cosine from 1/25 up to 1 over the warm-up (at least 30 % of the steps), then down to 1e-4

    Raises:
        ConfigError: unknown name.
    """
    if name == "one_cycle":
        rise = max(1.0, max(warmup, 0.3) * total)
        if step < rise:
            return blend(1 / 25, 1.0, step / rise)
        return blend(1.0, 1e-4, min(1.0, (step - rise) / max(1.0, total - 1 - rise)))
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, total - rise))
    match name:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return blend(1.0, 0.0, done)
        case "step":
            return 0.1 ** min(2, math.floor(3 * done))
    raise ConfigError(f"no schedule {name!r}; there are constant, cosine, linear, one_cycle, step.")


def blend(start: float, end: float, done: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
