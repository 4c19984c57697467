"""Noise on the recurrence of gated units, in training.

    zoneout       h_t = d * h_{t-1} + (1 - d) * h~_t      d = 1 with chance p: per row, channel and token
                  in evaluation h_t = p h_{t-1} + (1 - p) h~_t          (arXiv 1606.01305)
    variational   gates see m * h_{t-1} / (1 - p): one mask for each row of a call   (arXiv 1512.05287)
    candidate     what is written is m * n_t / (1 - p), a mask a token; memory is never dropped
                  (arXiv 1603.05118)
    weight drop   U with numbers missing, others scaled up: one mask for all tokens of a call
                  (arXiv 1708.02182)

All draw from the given generator, or from torch's of the device, so a resumed run draws the same. But for
zoneout a unit in evaluation computes what it does without any.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, States, Weights

KINDS = ("zoneout", "weight_drop", "variational_dropout", "candidate_dropout")


@dataclass(frozen=True)
class Noise:
    """What is done to a cell and its recurrent weights."""

    zoneout: tuple[float, ...]
    """Chance for each state of the unit, h first."""
    weight_drop: float = 0.0
    variational: float = 0.0
    candidate: float = 0.0
    generator: torch.Generator | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Noise":
        return self  # copies of a unit draw from the same generator

    def at_work(self, training: bool) -> bool:
        """Whether there is any of it."""
        return any(self.zoneout) or (training and any((self.weight_drop, self.variational, self.candidate)))

    def on(self, cell: Cell, weights: Weights, training: bool) -> tuple[Cell, Weights]:
        """The cell and weights of one call."""
        step = cell.step
        if training and self.weight_drop:
            weights = tuple(
                part if part is None or part.ndim == 1 else part * self.mask(part, self.weight_drop)
                for part in weights
            )
        if training and (self.variational or self.candidate):
            step = partial(step, masks=Drawn(self))
        if any(self.zoneout):
            step = partial(zoned, step, self, training)
        return (cell if step is cell.step else Cell(step)), weights

    def mask(self, like: Tensor, rate: float) -> Tensor:
        """Zero with chance `rate`, else 1 / (1 - rate)."""
        return (self.chance(like) >= rate).to(like.dtype) / (1 - rate)

    def chance(self, like: Tensor) -> Tensor:
        """Uniform in 0..1, in the shape of `like`."""
        if self.generator is None:
            return torch.rand_like(like)
        drawn = torch.rand(like.shape, generator=self.generator, device=self.generator.device)
        return drawn.to(like.device, like.dtype)


class Drawn:
    """The masks of one call."""

    def __init__(self, noise: Noise) -> None:
        self.noise, self.kept = noise, None

    def seen(self, h: Tensor) -> Tensor:
        if not self.noise.variational:
            return h
        if self.kept is None:
            self.kept = self.noise.mask(h.detach(), self.noise.variational)
        return h * self.kept

    def written(self, candidate: Tensor) -> Tensor:
        rate = self.noise.candidate
        return candidate * self.noise.mask(candidate.detach(), rate) if rate else candidate


def zoned(
    step: Any, noise: Noise, training: bool, gates: Tensor, state: States, weights: Weights
) -> tuple[Tensor, States]:
    """One step that keeps parts of the old state; y is the first state after it."""
    _, after = step(gates, state, weights)

    def mixed(old: Tensor, new: Tensor, rate: float) -> Tensor:
        if training:
            return torch.where(noise.chance(new) < rate, old, new)
        return rate * old + (1 - rate) * new

    kept = tuple(map(mixed, state, after, noise.zoneout))
    return kept[0], kept


def checked_noise(unit: str, states: int, zoneout: Any, generator: Any, **rates: float) -> Noise:
    """Noise from options, a zoneout for all states or one for each.

    Raises:
        ConfigError: a chance outside 0 <= p < 1, or of another number of states; no generator of torch.
    """
    given = zoneout if isinstance(zoneout, tuple | list) else (zoneout,) * states
    kept = tuple(0.0 if rate is None else float(rate) for rate in given)
    if len(kept) != states or not all(0 <= rate < 1 for rate in (*kept, *rates.values())):
        told = ", ".join(f"{name} {rate!r}" for name, rate in rates.items() if rate)
        raise ConfigError(
            f"{unit} takes zoneout in 0 <= p < 1, one or one for each of {states} states, and other chances "
            f"in the same range; got zoneout {zoneout!r}{', ' if told else ''}{told}"
        )
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ConfigError(f"generator is a torch.Generator or None, got {type(generator).__name__}")
    return Noise(
        kept,
        float(rates["weight_drop"]),
        float(rates["variational_dropout"]),
        float(rates["candidate_dropout"]),
        generator,
    )
