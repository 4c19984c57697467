"""Random numbers for compiled code: splitmix64, one word of state, the same bytes on every machine.

NumPy's generators may change their streams between versions; a scan is a function of its seed for ever.
"""

import math

import numpy as np

from core.kernels.jit import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11))
UNIT = 1.0 / 9007199254740992.0


def dice(seed: int) -> np.ndarray:
    """The state of a generator, (1,) uint64; near seeds give unrelated streams."""
    state = np.array([seed & (2**64 - 1)], dtype=np.uint64)
    mix(state)
    return state


@compiled
def mix(state):  # noqa: ANN001, ANN201
    """The next 64 bits; the state starts at a mixed place, so that seeds 1 and 2 share nothing."""
    state[0] += GOLDEN
    z = state[0]
    z = (z ^ (z >> SHIFTS[0])) * FIRST
    z = (z ^ (z >> SHIFTS[1])) * SECOND
    return z ^ (z >> SHIFTS[2])


@compiled
def draw(state):  # noqa: ANN001, ANN201
    """Uniform in [0, 1)."""
    return float(mix(state) >> SHIFTS[3]) * UNIT


@compiled
def between(state, low, high):  # noqa: ANN001, ANN201
    """Uniform in [low, high)."""
    return low + (high - low) * draw(state)


@compiled
def normal(state, mean, deviation):  # noqa: ANN001, ANN201
    """One normal number (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - draw(state)))
    return mean + deviation * radius * math.cos(2.0 * math.pi * draw(state))


@compiled
def waiting(state, mean):  # noqa: ANN001, ANN201
    """Exponential with the given mean."""
    return -mean * math.log(1.0 - draw(state))


@compiled
def arrivals(state, mean):  # noqa: ANN001, ANN201
    """A Poisson number."""
    limit, product, count = math.exp(-mean), draw(state), 0
    while product > limit and count < 1000:
        product *= draw(state)
        count += 1
    return count
