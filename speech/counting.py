"""Whether a mixture holds more talkers than a separator has tracks for: its tracks are separated once more.

A track of one talker comes back as one track and next to nothing; a track that still holds two comes back as
two that are both loud. So the rule has one number, the level of the weaker part below the stronger one.
"""

import torch
from torch import Tensor, nn

MORE_DB = -9.5
"""Above it a track holds two talkers. Set on mixtures of validation talkers (`tests.speech.count`)."""


@torch.inference_mode()
def held_together(network: nn.Module, tracks: Tensor) -> Tensor:
    """How far the weaker part of each track (S, n) lies below the stronger one when separated again, dB (S,).

    A silent track holds nobody: -120.
    """
    power = network(tracks).square().mean(-1)  # (S, S)
    low, high = power.amin(-1), power.amax(-1)
    return torch.where(high > 0, 10 * ((low + 1e-12 * high) / high.clamp(min=1e-30)).log10(), -120.0)


def crowded(network: nn.Module, tracks: Tensor) -> bool:
    """Whether the tracks (S, n) of a separated mixture hold more talkers than there are tracks."""
    return bool((held_together(network, tracks) > MORE_DB).any())
