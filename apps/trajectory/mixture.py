"""Simple answers beside the network's, and how well each would have done a moment ago.

    c_cv    p_T + k (p_T - p_{T-1})
    c_ls5   p_T + k times the slope of a line through the last five positions
    c_ls21  the line through all positions of the window, position and slope
    c_ctrv  constant turn rate and speed, `baselines.turn`
    p_k     = sum_m w_m(k) c_m(k),  w = softmax(a + b k / K),  the network's own path among the c_m

The logits are learned from `evidence`: the error that each simple answer would have made over the last half
and the last whole second, and the noise that no smooth path explains. Everything here keeps its value when
the window is moved, turned or mirrored.
"""

import torch
from torch import Tensor

from apps.trajectory.measures import (
    BACK_STEPS,
    CANDIDATES,
    FINER_STEPS,
    FLOOR_M,
    LONG,
    ROUNDING,
    SHORT,
    SLOWEST_MPS,
    STILL,
    TURN_POINTS,
)


def line(past: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """End and slope per step of a line through the last `points` of (B, T, D): (B, D) each."""
    n = min(points, past.shape[1])
    k = torch.arange(n, dtype=past.dtype, device=past.device) - (n - 1) / 2
    part = past[:, past.shape[1] - n :]
    slope = (k[:, None] * part).sum(1) / max((n**3 - n) / 12, 1.0)
    return part.mean(1) + slope * ((n - 1) / 2), slope


def turning(past: Tensor, dt: float, steps: int) -> Tensor:
    """Constant turn rate and speed as moves from the last position, (B, steps, D)."""
    velocity = past.diff(dim=1)[:, -TURN_POINTS:] / dt
    before, after = velocity[:, :-1, :2], velocity[:, 1:, :2]
    cross = (before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]).sum(1)
    dot = (before * after).sum((1, 2))
    last = velocity[:, -1]
    moving = last[:, :2].norm(dim=-1) > SLOWEST_MPS
    rate = torch.where(moving, torch.atan2(cross, torch.where(moving, dot, torch.ones_like(dot))), 0 * dot)
    angle = rate[:, None] * torch.arange(1, steps + 1, dtype=past.dtype, device=past.device)
    c, s = angle.cos(), angle.sin()
    x, y = last[:, 0, None], last[:, 1, None]
    flat = torch.stack([c * x - s * y, s * x + c * y], -1)
    rest = last[:, None, 2:].expand(-1, steps, -1)
    return dt * torch.cat([flat, rest], -1).cumsum(1)


def lines(past: Tensor) -> Tensor:
    """Short and long line through positions (B, T, D): (B, 2, 2, D) ends, from the last, and slopes."""
    both = [line(past, points) for points in (SHORT, past.shape[1])]
    return torch.stack([torch.stack([place - past[:, -1], slope], 1) for place, slope in both], 1)


def candidates(past: Tensor, dt: float, steps: int, through: Tensor | None = None) -> Tensor:
    """The simple answers to positions (B, T, D), counted from the last one: (B, 4, steps, D).

    Args:
        through: `lines` of something finer than the window: all samples of a fast recorder.
    """
    drawn = lines(past) if through is None else through
    k = torch.arange(1, steps + 1, dtype=past.dtype, device=past.device)[:, None]
    cv = k * (past[:, -1:] - past[:, -2:-1])
    short = k * drawn[:, 0, 1, None]
    long = drawn[:, 1, 0, None] + k * drawn[:, 1, 1, None]
    turn = turning(past, dt, steps) if past.shape[1] > 2 and past.shape[2] in (2, 3) else cv
    return torch.stack([cv, short, long, turn], 1)


def evidence(past: Tensor, dt: float, answers: Tensor, scale: Tensor) -> Tensor:
    """What speaks for each answer, (B, EVIDENCE).

    Args:
        past: (B, T, D) metres, counted from the last position.
        answers: (B, 4, K, D) of `candidates`.
        scale: (B,) recent speed, m/s.
    """
    time = past.shape[1]
    errors = []
    for back in BACK_STEPS:
        if time - back < 3:
            errors.append(past.new_zeros(past.shape[0], CANDIDATES))
            continue
        seen = past[:, : time - back]
        tried = candidates(seen, dt, back) + seen[:, -1][:, None, None]
        distance = (tried - past[:, None, time - back :]).square().sum(-1)
        errors.append(logarithm((distance + 1e-12).sqrt().mean(-1), scale[:, None], dt))
    lengths = [spread(past.diff(n=order, dim=1)) if time > order else 0 * scale for order in (2, 3)]
    for points in (SHORT, LONG):
        place, slope = line(past, points)
        n = min(points, time)
        back = torch.arange(1 - n, 1, dtype=past.dtype, device=past.device)[:, None]
        lengths.append(spread(past[:, time - n :] - place[:, None] - back * slope[:, None]))
    middle = answers[:, :, answers.shape[2] // 2]
    lengths += [(middle[:, 1] - middle[:, other]).norm(dim=-1) for other in (2, 3)]
    marks = logarithm(torch.stack(lengths, 1), scale[:, None], dt)
    known = (0 * scale + (time / LONG - 1))[:, None]
    return torch.cat([*errors, marks, scale.log()[:, None] / 3, known], 1)


def finer(past: Tensor, dt: float, through: Tensor | None, scale: Tensor) -> Tensor:
    """How far the lines through all samples are from those through the window, (B, FINER).

    Args:
        past, scale: as in `evidence`.
        through: as in `candidates`; None: there are no other samples.
    """
    gaps = past.new_zeros(past.shape[0], 2, 2)
    if through is not None:
        gaps = (through - lines(past)).norm(dim=-1) * gaps.new_tensor([1.0, FINER_STEPS])
    return logarithm(gaps.flatten(1), scale[:, None], dt)


def spread(values: Tensor) -> Tensor:
    """Root mean square length of vectors (B, n, D), (B,)."""
    return (values.square().sum(-1).mean(1) + 1e-12).sqrt()


def logarithm(length: Tensor, scale: Tensor, dt: float) -> Tensor:
    """A length beside a step at the recent speed, on a logarithmic measure of about one."""
    return ((length + FLOOR_M) / (scale * dt)).log() / 3


def bent(velocity: Tensor, scale: Tensor) -> Tensor:
    """(B,) 0 where all velocities (B, T, D) are equal, near 1 where they differ by more than `STILL`."""
    differ = (velocity - velocity.mean(1, keepdim=True)).square().sum(-1).mean(1)
    differ = (differ - (ROUNDING * scale).square()).clamp_min(0)
    return differ / (differ + (STILL * scale).square())


def mixed(own: Tensor, answers: Tensor, logits: Tensor) -> Tensor:
    """Weighted mean of the network's path (B, K, D) and the simple ones (B, 4, K, D).

    Args:
        logits: (B, 2 (1 + 4)): offset a and slope b over the steps, the network first.
    """
    steps = own.shape[1]
    share = torch.arange(1, steps + 1, dtype=own.dtype, device=own.device) / steps
    first, slope = logits.chunk(2, -1)
    weights = (first[:, None] + share[:, None] * slope[:, None]).softmax(-1)  # (B, K, 5)
    paths = torch.cat([own[:, None], answers], 1)
    return (weights.transpose(1, 2)[..., None] * paths).sum(1)
