"""Changes to training windows that keep them possible flights.

A window is positions (B, T+1+K, D) of history and future together; noise and lost samples touch the
history alone, so that the target stays what really happened.
"""

import math

import torch
from torch import Generator, Tensor

from apps.trajectory.config import AugmentConfig


def augment(
    windows: Tensor, history: int, config: AugmentConfig, generator: Generator, *, yaw: bool
) -> Tensor:
    """Augmented copy of windows (B, T+1+K, D), positions counted from the last one of the history.

    Args:
        history: positions before the future begins.
        yaw: turn by a random heading too; a model in the yaw frame does not need it.
    """
    dims = windows.shape[-1]
    windows = reverse(windows, chance(windows, config.reverse, generator))
    windows = windows - windows[:, history - 1 : history]
    if dims in (2, 3):
        side = torch.ones(len(windows), dims, dtype=windows.dtype)
        side[chance(windows, config.mirror, generator), 1] = -1
        if dims == 3:
            side[chance(windows, config.flip, generator), 2] = -1
        windows = windows * side[:, None]
        if yaw:
            windows = turn(windows, 2 * math.pi * torch.rand(len(windows), generator=generator))
    low, high = (math.log(edge) for edge in config.scale_range)
    factor = torch.exp(low + (high - low) * torch.rand(len(windows), generator=generator))
    factor[~chance(windows, config.scale, generator)] = 1
    windows = windows * factor[:, None, None].to(windows)
    windows = carry(windows, history, chance(windows, config.drift, generator), generator)
    past, future = windows[:, :history], windows[:, history:]
    past = lose_samples(past, chance(windows, config.gaps, generator), generator)
    past = add_noise(past, chance(windows, config.noise, generator), config.noise_m, generator)
    return torch.cat([past, future], 1)


def chance(windows: Tensor, probability: float, generator: Generator) -> Tensor:
    """(B,) booleans, each true with this probability."""
    return torch.rand(len(windows), generator=generator) < probability


def reverse(windows: Tensor, where: Tensor) -> Tensor:
    """The chosen windows backwards in time."""
    return torch.where(where[:, None, None], windows.flip(1), windows)


def turn(windows: Tensor, angle: Tensor) -> Tensor:
    """Turn the horizontal coordinates by an angle (B,) each."""
    c, s = angle.cos().to(windows)[:, None], angle.sin().to(windows)[:, None]
    x, y = windows[..., 0], windows[..., 1]
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], -1), windows[..., 2:]], -1)


def carry(windows: Tensor, history: int, where: Tensor, generator: Generator) -> Tensor:
    """Add a constant velocity to the chosen windows, of any direction and up to twice their own speed.

    The laws of motion are the same on a moving deck; a turn becomes a cycloid or a screw.
    """
    count, time, dims = windows.shape
    step = windows[:, :history].diff(dim=1).square().sum(-1).mean(1).sqrt()
    aside = torch.randn(count, dims, generator=generator, dtype=windows.dtype)
    aside = aside / aside.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    size = 2 * torch.rand(count, generator=generator, dtype=windows.dtype) * step * where
    since = torch.arange(time, dtype=windows.dtype) - (history - 1)
    return windows + since[:, None] * (size[:, None] * aside)[:, None]


def lose_samples(past: Tensor, where: Tensor, generator: Generator) -> Tensor:
    """Replace one to four inner samples by the straight line between their neighbours, as resampling does."""
    time = past.shape[1]
    longest = min(4, time - 3)
    if longest < 1:
        return past
    count = torch.randint(1, longest + 1, (len(past),), generator=generator)
    first = 1 + (torch.rand(len(past), generator=generator) * (time - 2 - count)).long()
    index = torch.arange(time)
    lost = (index >= first[:, None]) & (index < (first + count)[:, None]) & where[:, None]
    rows = torch.arange(len(past))
    before, after = past[rows, first - 1], past[rows, first + count]
    share = ((index - first[:, None] + 1) / (count + 1)[:, None]).to(past)[..., None]
    line = before[:, None] + share * (after - before)[:, None]
    return torch.where(lost[..., None], line, past)


def add_noise(past: Tensor, where: Tensor, largest: float, generator: Generator) -> Tensor:
    """White noise with a standard deviation drawn in 0..largest metres per window."""
    sigma = largest * torch.rand(len(past), generator=generator) * where
    noise = torch.randn(past.shape, generator=generator, dtype=past.dtype)
    return past + sigma.to(past)[:, None, None] * noise
