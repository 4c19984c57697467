"""How long the channels of a unit remember at the start: time constants, and the numbers that give them.

A channel of time constant tau keeps 1 - 1/tau of its memory at every token of zero input.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError

GOLDEN = (math.sqrt(5) - 1) / 2

Tokens = float | tuple[float, float]
"""T for time constants from T/4 to 4 T, or both ends."""


def time_constants(unit: str, count: int, tokens: Tokens) -> Tensor:
    """(count,) time constants in tokens, evenly spread in the logarithm, in float64.

    Neighbours differ: the order is that of multiples of the golden ratio, so that any group of channels,
    such as a head, has short and long memories.

    Raises:
        ConfigError: not one or two numbers, or a memory of a token or less.
    """
    try:
        low, high = tokens if isinstance(tokens, tuple | list) else (tokens / 4, 4 * tokens)
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        raise ConfigError(f"remember of {unit} is a number of tokens or a pair, got {tokens!r}") from None
    if not 1 < low <= high < math.inf:
        raise ConfigError(f"{unit} can remember more than one token, so T above 4 or a pair; got {tokens!r}")
    if count == 1:
        return torch.tensor([math.sqrt(low * high)], dtype=torch.float64)
    spread = torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64)
    place = (torch.arange(count, dtype=torch.float64) * GOLDEN).frac().argsort().argsort()
    return spread.exp()[place]


def keep_logit(tau: Tensor) -> Tensor:
    """What a logistic gate needs to keep 1 - 1/tau."""
    return (tau - 1).log()


def log_keep(tau: Tensor) -> Tensor:
    """log(1 - 1/tau)."""
    return torch.log1p(-1 / tau)


def needed(unit: str, *biases: Tensor | None) -> list[Tensor]:
    """The biases that hold the memory.

    Raises:
        ConfigError: the unit was built without.
    """
    if any(bias is None for bias in biases):
        raise ConfigError(f"{unit} remembers by its biases; remember needs them, so not bias=False")
    return [bias for bias in biases if bias is not None]


def rate_for(tau: Tensor, steps: Tensor) -> Tensor:
    """log A for which softplus(steps) A is 1/tau."""
    return -(tau * F.softplus(steps.double())).log()
