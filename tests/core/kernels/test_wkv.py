import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.wkv import LOWEST, running_maximum, wkv, wkv_ref
from tests.core.kernels.agreement import assert_agree, assert_finite


def sample(time: int, spread: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """k, v, w, u."""
    k, v = torch.randn(2, 2, time, 5, dtype=dtype)
    return spread * k, v, -torch.rand(5, dtype=dtype) * spread, torch.randn(5, dtype=dtype)


def start(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    a = torch.randn(2, 5, dtype=dtype)
    return a, torch.rand_like(a) + 0.5, torch.randn(2, 5, dtype=dtype)


def empty(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    zero = torch.zeros(2, 5, dtype=dtype)
    return zero, zero, zero + LOWEST


@pytest.mark.parametrize("time", [1, 2, 7, 64, 99])
def test_equals_the_definition_with_and_without_a_state(time: int) -> None:
    assert_agree(lambda *x: wkv(*x, empty()), lambda *x: wkv_ref(*x, empty()), sample(time))
    assert_agree(
        lambda k, v, w, u, *state: wkv(k, v, w, u, state),
        lambda k, v, w, u, *state: wkv_ref(k, v, w, u, state),
        (*sample(time), *start()),
    )


def test_is_the_weighted_average_of_the_values() -> None:
    k, v, w, u = sample(6)
    y, _ = wkv(k, v, w, u, empty())
    for t in range(6):
        past = [k[:, s] + (t - 1 - s) * w for s in range(t)]
        weights = torch.stack([*past, u + k[:, t]], 1).softmax(1)
        assert_close(y[:, t], (weights * v[:, : t + 1]).sum(1))


@pytest.mark.parametrize("spread", [50.0, 1e4])
def test_keys_and_decays_of_any_size_give_finite_results_and_gradients(spread: float) -> None:
    inputs = sample(80, spread, torch.float32)
    assert_finite(lambda *x: wkv(*x, empty(torch.float32)), inputs)
    assert_close(
        wkv(*inputs, empty(torch.float32))[0], wkv_ref(*inputs, empty(torch.float32))[0], rtol=1e-4, atol=1e-4
    )


def test_the_running_maximum_fades() -> None:
    k = torch.tensor([[[3.0], [0.0], [0.0], [2.0]]])
    top = running_maximum(k, torch.tensor([-1.0]), torch.tensor([[5.0]]))
    assert_close(top.flatten(), torch.tensor([4.0, 3.0, 2.0, 2.0]))
