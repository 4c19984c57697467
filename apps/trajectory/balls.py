"""Balls that hold the same share of every family: the last thing that training does, in minutes on a CPU.

    spread_k^2 = (size_k e^(a_k))^2 shape_k + D (floor + (noise s_k)^2),  a, s from state and evidence

Everything but a and s is a number once the mean is learned, so it is worked out once for many windows, and
the few layers behind a and s are fitted to the errors alone. A ball that holds 90 % of all windows holds less
of one family and more of another that looks alike. Each family and step therefore has a level of its own in
the quantile loss,

    level <- level + rate (0.9 - share inside)

which rises where too little is held, until all hold what they should: the multiplier of a constraint.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from apps.trajectory.loss import above_ball, quantile_loss
from apps.trajectory.measures import VARIANCE_FLOOR
from apps.trajectory.models.predictor import Ball, Predictor
from apps.trajectory.pools import LEVEL, LEVELS, Cut

LAYERS = ("wide", "widen", "tilt", "grain")
LR = 3e-3
PER_FAMILY = 128
"""Windows of each family in a batch."""
RATE, MEMORY, LEAST, MOST = 0.02, 0.95, 0.3, 0.995
"""How fast a level follows, how long shares are remembered, and between what a level stays."""
SETTLE = 100
"""Batches before levels move."""
CHUNK = 4096
FAMILY = 6000
"""Windows of a family that are looked at, at most."""


class Looked:
    """What the layers of the ball read of the windows of all families, and the errors."""

    def __init__(self, network: Predictor, cuts: Sequence[Cut]) -> None:
        parts: list[tuple[Tensor, ...]] = []
        self.counts = []
        for cut in cuts:
            self.counts.append(len(cut.windows))
            parts += [look(network, cut, begin) for begin in range(0, len(cut.windows), CHUNK)]
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        self.size, self.told, self.marks, self.noise, self.shape, self.error = columns

    def __len__(self) -> int:
        return len(self.error)

    def spread(self, network: Predictor, chosen: Tensor) -> Tensor:
        """(n, K) metres, by the layers as they are."""
        ball = Ball(self.size[chosen], self.told[chosen], self.marks[chosen], self.noise[chosen])
        reach, noise = network.sized(ball)
        floor = VARIANCE_FLOOR if noise is None else VARIANCE_FLOOR + noise.square()
        return (reach.square() * self.shape[chosen] + network.dims * floor).sqrt()


@torch.no_grad()
def look(network: Predictor, cut: Cut, begin: int) -> tuple[Tensor, ...]:
    """A chunk of the windows of one family."""
    order: Any = network.order
    device, history = order.device, network.history
    part = slice(begin, begin + CHUNK)
    windows = cut.windows[part].to(device)
    through = None if cut.lines is None else cut.lines[part].to(device)
    mean, raw, ball = network.ball(windows[:, :history], through)
    gaps = mean - windows[:, history:]
    if network.dims == 3:  # a mover in the plane is judged in the plane
        gaps[..., 2] *= windows[..., 2].abs().amax(1, keepdim=True) > 0
    error = gaps.norm(dim=-1)
    noise = torch.zeros_like(error[:, :1]) if ball.noise is None else ball.noise
    assert ball.told is not None
    assert ball.marks is not None
    return ball.size, ball.told, ball.marks, noise, network.shape(raw), error


@torch.enable_grad()
def fit_balls(network: Predictor, families: Mapping[str, Cut], steps: int, seed: int) -> None:
    """Fit the layers behind the size of the ball, so that 90 % of every family lie in `BALL` spreads.

    Args:
        families: windows of flights that the mean was not learned from, by family.
        steps: batches.
    """
    thin = [cut.thinned(1 + len(cut.windows) // FAMILY) for cut in families.values()]
    seen = Looked(network, thin)
    device, counts = seen.error.device, torch.tensor(seen.counts)[:, None]
    firsts = torch.tensor([0, *seen.counts]).cumsum(0)
    aims = torch.tensor([LEVELS.get(name, LEVEL) for name in families], device=device)[:, None]
    levels = aims.repeat(1, network.horizon)
    held = levels.clone()
    layers = [getattr(network, name) for name in LAYERS if hasattr(network, name)]
    learned = [value for layer in layers for value in layer.parameters()]
    optimizer = torch.optim.Adam(learned, lr=LR)
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(False)
    for value in learned:
        value.requires_grad_(True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / steps)
        draws = torch.rand(len(families), PER_FAMILY, generator=generator)
        chosen = (firsts[:-1, None] + (draws * counts).long()).ravel().to(device)
        spread = seen.spread(network, chosen)
        gap = above_ball(seen.error[chosen], spread)  # (n, K)
        loss = quantile_loss(gap, levels.repeat_interleave(PER_FAMILY, 0)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        inside = (gap.detach() <= 0).float().view(len(families), PER_FAMILY, -1).mean(1)
        held = MEMORY * held + (1 - MEMORY) * inside
        if step >= SETTLE:
            levels = (levels + RATE * (aims - held)).clamp(LEAST, MOST)
    network.requires_grad_(True)
