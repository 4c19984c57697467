import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.mlstm_chunk import (
    mlstm_chunkwise,
    mlstm_ref,
    mlstm_sigmoid,
    mlstm_sigmoid_step,
)
from tests.core.kernels.agreement import assert_agree, assert_finite


def sample(time: int, spread: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    q, k = torch.randn(2, 2, time, 2, 3, dtype=dtype)
    v = torch.randn(2, time, 2, 4, dtype=dtype)
    i, f = spread * torch.randn(2, 2, time, 2, dtype=dtype)
    return q, k, v, i, f


def start() -> tuple[Tensor, ...]:
    shapes = ((2, 2, 3, 4), (2, 2, 3), (2, 2))
    C, n, m = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return C, n, m


@pytest.mark.parametrize("time", [1, 5, 16, 37])
@pytest.mark.parametrize("chunk", [5, 16])
def test_equals_the_definition_with_and_without_a_state(time: int, chunk: int) -> None:
    inputs = sample(time)
    assert_agree(lambda *x: mlstm_chunkwise(*x, chunk=chunk), mlstm_ref, inputs)
    assert_agree(
        lambda q, k, v, i, f, *state: mlstm_chunkwise(q, k, v, i, f, state, chunk=chunk),
        lambda q, k, v, i, f, *state: mlstm_ref(q, k, v, i, f, state),
        (*inputs, *start()),
    )


def test_both_forms_hand_their_state_to_each_other() -> None:
    inputs = sample(20)
    head, tail = [x[:, :9] for x in inputs], [x[:, 9:] for x in inputs]
    whole, end = mlstm_chunkwise(*inputs, chunk=4)
    for first, second in ((mlstm_chunkwise, mlstm_ref), (mlstm_ref, mlstm_chunkwise)):
        _, middle = first(*head)
        h, final = second(*tail, state=middle)
        assert_close(h, whole[:, 9:])
        for a, b in zip(final, end, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("spread", [30.0, 1e3, 1e5])
def test_gates_of_any_size_give_finite_results_and_gradients(spread: float) -> None:
    inputs = sample(70, spread, torch.float32)
    assert_finite(lambda *x: mlstm_chunkwise(*x, chunk=16), inputs)
    assert_finite(mlstm_ref, inputs)


def test_gates_that_close_for_good_leave_nothing() -> None:
    q, k, v, _, _ = sample(12, dtype=torch.float32)
    shut = torch.full((2, 12, 2), -200.0)
    assert_finite(lambda *x: mlstm_chunkwise(*x, chunk=4), (q, k, v, shut, shut))
    assert mlstm_chunkwise(q, k, v, shut, shut)[0].abs().max() < 1e-30


@pytest.mark.parametrize("normalise", [True, False])
def test_sigmoid_gates_equal_stepping(normalise: bool) -> None:
    def stepped(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, *state: Tensor) -> tuple:
        outputs = []
        for t in range(q.shape[1]):
            token = (q[:, t], k[:, t], v[:, t], i[:, t], f[:, t])
            h, state = mlstm_sigmoid_step(*token, state, normalise)  # pyright: ignore[reportArgumentType]
            outputs.append(h)
        return torch.stack(outputs, 1), state

    assert_agree(
        lambda q, k, v, i, f, C, n: mlstm_sigmoid(q, k, v, i, f, (C, n), normalise=normalise, chunk=4),
        stepped,
        (*sample(11), *start()[:2]),
    )
