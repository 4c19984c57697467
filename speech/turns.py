"""Turns of one talker: where one track lies far below another for a while, it holds leakage and is hushed.

A network that keeps two voices apart leaves some of the one in the track of the other. While both talk that
hides below the other voice; in a turn of one alone it is all that is heard.
"""

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import Tensor

MEMORY_S, FADE_S = 0.3, 0.04
"""Levels are compared over MEMORY_S; gains rise and fall within FADE_S."""
TURN_DB = -25.0
"""Of validation talkers: -12 cost 0.3 dB where both talk and 1.4 dB of a conversation, whose words overlap;
without any, the network's own leakage in turns lies 28 dB below them."""


def hushed(tracks: Tensor, rate: int, below_db: float = TURN_DB) -> Tensor:
    """Tracks (S, n) with silence where one is leakage of another."""
    count = tracks.shape[1]
    size, fade = max(1, int(MEMORY_S * rate)), max(1, int(FADE_S * rate))
    if count < 2 * size:
        return tracks
    wave = tracks.numpy().astype(np.float64)
    power = uniform_filter1d(np.square(wave), size, mode="nearest")
    heard = power >= power.max(0) * 10 ** (below_db / 10)
    gains = uniform_filter1d(heard.astype(np.float64), fade, mode="nearest")
    return tracks * torch.from_numpy(gains.clip(0.0, 1.0)).to(tracks.dtype)
