import math

import pytest
import torch
from torch import Tensor

from core.kernels.dplr_scan import dplr_ref, dplr_scan
from tests.core.kernels.agreement import assert_agree, assert_finite

BOUND = -0.6


def sample(time: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """r, k, v, a, b, log decay; a and b as in a delta rule, so that the state stays bounded."""
    r, k, kappa = torch.randn(3, 2, time, 2, 4, dtype=dtype)
    kappa = torch.nn.functional.normalize(kappa, dim=-1)
    v = torch.randn(2, time, 2, 3, dtype=dtype)
    rate, fade = torch.rand(2, 2, time, 2, 4, dtype=dtype)
    return r, k, v, -kappa, rate * kappa, BOUND * fade


@pytest.mark.parametrize("time", [1, 6, 32, 45])
@pytest.mark.parametrize("chunk", [8, 32])
def test_equals_the_definition_with_and_without_a_state(time: int, chunk: int) -> None:
    inputs = sample(time)
    assert_agree(lambda *x: dplr_scan(*x, bound=BOUND, chunk=chunk), dplr_ref, inputs)
    state = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    assert_agree(lambda *x: dplr_scan(*x, bound=BOUND, chunk=chunk), dplr_ref, (*inputs, state))


def test_the_strongest_decay_stays_exact_in_float32() -> None:
    r, k, v, a, b, fade = sample(200, torch.float32)
    strongest = torch.full_like(fade, BOUND)
    assert_agree(lambda *x: dplr_scan(*x, bound=BOUND), dplr_ref, (r, k, v, a, b, strongest), 1e-5)


@pytest.mark.parametrize("bound", [-5.0, -30.0])
def test_a_lower_bound_shortens_the_chunk(bound: float) -> None:
    r, k, v, a, b, fade = sample(50, torch.float32)
    inputs = (r, k, v, a, b, fade * bound / BOUND)
    assert_finite(lambda *x: dplr_scan(*x, bound=bound), inputs)
    assert_agree(lambda *x: dplr_scan(*x, bound=bound), dplr_ref, inputs, 2e-5)


@pytest.mark.parametrize("bound", [0.0, 1.0, -41.0, -math.inf, math.nan])
def test_a_bound_that_promises_nothing_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="bound of a log decay"):
        dplr_scan(*sample(4), bound=bound)
