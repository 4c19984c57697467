"""Initial values that several families share."""

import math

import torch
from torch import Tensor


def step_bias(count: int, shortest: float = 1e-3, longest: float = 1e-1) -> Tensor:
    """(count,) biases whose softplus is log-uniform from the shortest to the longest step, at least 1e-4."""
    delta = torch.empty(count).uniform_(math.log(shortest), math.log(longest)).exp().clamp(min=1e-4)
    return delta + torch.log(-torch.expm1(-delta))
