"""Numbers and tables that the network in torch and its compiled twin share; nothing here needs torch."""

import numpy as np

SPEED_FLOOR = 0.15
"""m/s added (in squares) to the recent speed: what a hovering drone's noise looks like at 10 Hz."""
STREAM_MEMORY_S = 1.0
"""Time constant of the recent speed of a stream."""
HEADING_MEMORY_S = 0.2
"""Time constant of the velocity whose direction is a stream's heading."""
VARIANCE_FLOOR = 1e-4
"""Square metres: no covariance claims more than a centimetre."""
TILTS = -12.0, 4.0
"""Logarithms between which the evidence may scale the spread: noise is a small part of a fast step."""

CANDIDATES = 4
"""Simple answers beside the network's."""
FAVOURS = 2 * (1 + CANDIDATES)
"""Logits of a mixture: an offset and a slope over the steps for everybody, the network first."""
BACK_STEPS = (5, 10)
"""Steps before the end from which the simple answers are tried."""
EVIDENCE = len(BACK_STEPS) * CANDIDATES + 8
NOISE_MARK = len(BACK_STEPS) * CANDIDATES + 1
"""Which of the evidence tells the third differences: their deviation is sqrt(20) times that of the noise."""
FINER = 4
"""How far the lines through all samples of a faster recorder are from those through the window: two ends, two
slopes."""
FINER_STEPS = 10
"""Steps over which a difference of slopes is told."""
FLOOR_M = 0.002
"""Metres added to every length before its logarithm is taken."""
STILL = 1e-3
"""Share of the speed by which velocities must differ before the network may bend the path."""
ROUNDING = 2e-6
"""Share of the speed by which velocities differ for their single precision alone."""
SHORT, LONG = 5, 21
"""Positions of the short line; the long one takes the whole window, which has so many when it is full."""
TURN_POINTS = 5
SLOWEST_MPS = 0.1
"""Velocities that a turn is seen from, and the speed below which a heading means nothing."""


def reflection(dims: int, steps: int, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Which raw output of the read-out answers for which in the mirror, and its sign, (n,) each."""
    left = np.ones((steps, dims))
    if dims > 1:
        left[:, 1] = -1
    sign, order = [left.ravel(), np.ones(steps)], [np.arange(steps * (dims + 1))]
    if head == "gaussian":
        one = np.ones(dims * (dims + 1) // 2)
        rows, columns = np.tril_indices(dims, -1)
        one[dims:][(rows == 1) != (columns == 1)] = -1
        sign.append(np.tile(one, steps))
        order.append(len(order[0]) + np.arange(len(sign[-1])))
    elif head == "quantile":
        one = np.arange(2 * dims)
        if dims > 1:  # what lies low on the left lies high on the right
            one[[1, dims + 1]] = one[[dims + 1, 1]]
        sign.append(np.ones(steps * 2 * dims))
        order.append((len(order[0]) + 2 * dims * np.arange(steps)[:, None] + one).ravel())
    return np.concatenate(order), np.concatenate(sign).astype(np.float32)
