"""Positions -> what a network reads, and back: frames, scaling, normalisation.

A window of positions p_0..p_T becomes velocities v_i = (p_{i+1} - p_i) / dt, so that the origin is
unknown to the network. Two more things are taken out and put back afterwards (`Anchor`): the heading,
by turning the last velocity onto the x axis, and the speed, by dividing by its recent mean.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from apps.trajectory.config import Frame
from apps.trajectory.measures import HEADING_MEMORY_S, SPEED_FLOOR, STREAM_MEMORY_S
from core.errors import ConfigError


def velocities(positions: Tensor, dt: float) -> Tensor:
    """Forward differences: (B, T+1, D) -> (B, T, D)."""
    return positions.diff(dim=-2) / dt


def integrate(velocity: Tensor, dt: float) -> Tensor:
    """Displacement from the last position, p_{k+1} = p_k + v_k dt: (B, K, D) -> (B, K, D)."""
    return velocity.cumsum(-2) * dt


def heading(velocity: Tensor) -> Tensor:
    """Cosine and sine of the horizontal direction: (..., D) -> (..., 2); (1, 0) when it does not move."""
    flat = velocity[..., :2]
    length = flat.norm(dim=-1, keepdim=True)
    ahead = torch.zeros_like(flat)
    ahead[..., 0] = 1
    return torch.where(length > 1e-6, flat / length.clamp_min(1e-6), ahead)


def into_frame(vector: Tensor, turn: Tensor) -> Tensor:
    """Turn the first two coordinates by minus the heading `turn` (..., 2)."""
    x, y = vector[..., 0], vector[..., 1]
    c, s = turn[..., 0], turn[..., 1]
    return torch.cat([torch.stack([c * x + s * y, c * y - s * x], -1), vector[..., 2:]], -1)


def out_of_frame(vector: Tensor, turn: Tensor) -> Tensor:
    """The inverse of `into_frame`."""
    return into_frame(vector, torch.stack([turn[..., 0], -turn[..., 1]], -1))


@dataclass(frozen=True)
class Anchor:
    """What was taken out of an input, to be put back into its prediction."""

    turn: Tensor | None
    """(B, 2) cosine and sine of the heading, None without a frame."""
    scale: Tensor
    """(B,) recent speed in m/s."""
    velocity: Tensor
    """(B, D) last velocity, scaled and turned."""

    def restore(self, offsets: Tensor) -> Tensor:
        """Scaled offsets (B, K, D) in the frame -> metres in the world."""
        metres = offsets * self.scale[:, None, None]
        return metres if self.turn is None else out_of_frame(metres, self.turn[:, None])

    def axes(self, dims: int) -> Tensor:
        """(B, D, D), rows are the axes of the frame in the world: ahead, left, (up)."""
        eye = torch.eye(dims, dtype=self.scale.dtype, device=self.scale.device)
        eye = eye.expand(self.scale.shape[0], dims, dims)
        return eye if self.turn is None else out_of_frame(eye, self.turn[:, None])


def feature_size(dims: int, *, stateful: bool) -> int:
    """Numbers per sample: velocity, its change, log speed scale, speed; a stream adds its turning."""
    return 2 * dims + (4 if stateful else 2)


def window_features(velocity: Tensor, frame: Frame) -> tuple[Tensor, Anchor]:
    """Velocities (B, T, D) -> features (B, T, 2 D + 2) and the anchor.

    The whole window is turned by the heading of its last velocity and divided by its root mean square speed.
    """
    turn = heading(velocity[:, -1]) if frame == "yaw" else None
    if turn is not None:
        velocity = into_frame(velocity, turn[:, None])
    scale = (velocity.square().sum(-1).mean(1) + SPEED_FLOOR**2).sqrt()
    scaled = velocity / scale[:, None, None]
    change = scaled.diff(dim=1, prepend=scaled[:, :1])
    level = scale.log()[:, None, None].expand(-1, scaled.shape[1], 1)
    speed = scaled.norm(dim=-1, keepdim=True) - 1
    return torch.cat([scaled, 3 * change, level, speed], -1), Anchor(turn, scale, scaled[:, -1])


StreamState = tuple[Tensor, Tensor, Tensor, Tensor]
"""(B, D) last velocity, (B, D) smoothed velocity, (B, 1) mean squared speed, (B, 1) samples so far."""


def stream_start(x: Tensor, dims: int) -> StreamState:
    """State of a stream before its first velocity, for the batch and dtype of x (B, ...)."""
    zero = x.new_zeros(x.shape[0], dims)
    return zero, zero, zero[:, :1], zero[:, :1]


def stream_features(
    velocity: Tensor, state: StreamState, frame: Frame, dt: float
) -> tuple[Tensor, Anchor, StreamState]:
    """One velocity (B, D) -> features (B, 2 D + 4), anchor, state. Looks at the past only.

    Heading and speed are running averages (debiased, as in Adam), so each sample has a frame of its own;
    the turn from the last frame to this one is a feature.
    """
    before, smooth, power, count = state
    count = count + 1
    first = count == 1
    keep_heading, keep_speed = math.exp(-dt / HEADING_MEMORY_S), math.exp(-dt / STREAM_MEMORY_S)
    last_turn = heading(smooth)
    smooth = keep_heading * smooth + (1 - keep_heading) * velocity
    power = keep_speed * power + (1 - keep_speed) * velocity.square().sum(-1, keepdim=True)
    scale = (power / (1 - keep_speed**count) + SPEED_FLOOR**2).sqrt()
    change = torch.where(first, torch.zeros_like(velocity), velocity - before)
    turn = None
    turned = torch.zeros_like(velocity[:, :2])
    turned[:, 0] = 1
    seen, seen_change = velocity, change
    if frame == "yaw":
        turn = heading(smooth)
        seen, seen_change = into_frame(velocity, turn), into_frame(change, turn)
        turned = torch.where(first, turned, into_frame(turn, last_turn))
    seen = seen / scale
    speed = seen.norm(dim=-1, keepdim=True) - 1
    features = torch.cat(
        [seen, 3 * seen_change / scale, scale.log(), speed, turned - turned.new_tensor([1, 0])], -1
    )
    return features, Anchor(turn, scale[:, 0], seen), (velocity, smooth, power, count)


@dataclass(frozen=True)
class Normalisation:
    """The published ways to normalise velocities or positions, one transform for all steps.

    - `max`: x / maximum, no centring;
    - `cholesky_T`: (x - mean) @ L.T with L = cholesky(inverse(cov)), as the published weights need it.
      It is no exact whitening: the covariance of the result is not the identity;
    - `exact`: (x - mean) @ L, which is.
    """

    kind: Literal["max", "cholesky_T", "exact"]
    mean: Tensor | None = None
    lower: Tensor | None = None
    maximum: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "max" and not self.maximum:
            raise ConfigError("max normalisation needs a maximum other than zero.")
        if self.kind != "max" and (self.mean is None or self.lower is None):
            raise ConfigError(f"{self.kind} normalisation needs the mean and the matrix L.")

    @classmethod
    def fit(cls, values: Tensor, kind: Literal["max", "cholesky_T", "exact"]) -> "Normalisation":
        """From training values (N, D)."""
        values = values.double()
        covariance = torch.cov(values.T)
        lower = torch.linalg.cholesky(torch.linalg.inv(covariance))
        return cls(kind, values.mean(0), lower, values.abs().max().item())

    def matrix(self, like: Tensor) -> Tensor:
        assert self.lower is not None
        lower = self.lower.to(like)
        return lower.T if self.kind == "cholesky_T" else lower

    def apply(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), in the dtype of x."""
        if self.kind == "max":
            return x / self.maximum
        assert self.mean is not None
        return (x - self.mean.to(x)) @ self.matrix(x)

    def invert(self, y: Tensor) -> Tensor:
        """The inverse of `apply`; whitening is undone in float64."""
        if self.kind == "max":
            return y * self.maximum
        assert self.mean is not None
        y = y.double()
        return y @ torch.linalg.inv(self.matrix(y)) + self.mean.to(y)
