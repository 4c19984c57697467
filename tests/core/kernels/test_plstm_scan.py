import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.plstm.scan import plstm_ref, plstm_scan
from tests.core.kernels.agreement import assert_agree

SIZES = [(1, 1, 1, 1, 1), (2, 3, 2, 1, 2), (3, 1, 1, 2, 1)]


def sample(time: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """q, k, v, s, t, m, d, state for JT, JK, JV, JO, JQ."""
    jt, jk, jv, jo, jq = sizes
    shapes = [(4, jq), (4, jk), (3, jv), (jt, jk, jv), (jt, jt), (jo, jq, jt), (jo, jq, jk, jv)]
    tokens = [torch.randn(2, time, *shape, dtype=torch.float64) for shape in shapes]
    tokens[4] = tokens[4] / (2 * jt)
    return *tokens, torch.randn(2, 4, 3, jt, dtype=torch.float64)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("time", [1, 3, 16, 29])
@pytest.mark.parametrize("chunk", [1, 8, 16])
def test_equals_the_definition_at_any_length(sizes: tuple[int, ...], time: int, chunk: int) -> None:
    inputs = sample(time, sizes)
    assert_agree(lambda *x: plstm_scan(*x, chunk=chunk), plstm_ref, inputs)
    assert_agree(lambda *x: plstm_scan(*x, chunk=chunk), plstm_ref, inputs[:-1])


def test_transitions_of_zero_forget_and_negative_ones_alternate() -> None:
    q, k, v, s, t, m, d, state = sample(12, SIZES[0])
    for value in (0.0, -1.0, 1.0):
        fixed = torch.full_like(t, value)
        inputs = (q, k, v, s, fixed, m, d, state)
        assert_agree(lambda *x: plstm_scan(*x, chunk=8), plstm_ref, inputs)
    ends = plstm_scan(q, k, v, s, torch.zeros_like(t), m, d, state)[1]
    last = torch.einsum("bjfg,bdf,beg->bdej", s[:, -1], k[:, -1], v[:, -1])
    assert_close(ends, last)


def test_a_chunk_is_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two, got 12"):
        plstm_scan(*sample(4, SIZES[0]), chunk=12)
