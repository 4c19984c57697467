import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.prefix_attention import prefix_attention, prefix_attention_ref
from tests.core.kernels.agreement import assert_agree, assert_finite


def sample(time: int, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.randn(2, time, 3, dtype=dtype) * spread, torch.randn(2, time, 3, 4, dtype=dtype)


def start() -> tuple[Tensor, ...]:
    m = torch.randn(2, 3, dtype=torch.float64)
    return m, torch.rand_like(m) + 1, torch.randn(2, 3, 4, dtype=torch.float64)


@pytest.mark.parametrize("time", [1, 7, 16, 45])
@pytest.mark.parametrize("chunk", [8, 16])
def test_equals_the_definition_with_and_without_a_state(time: int, chunk: int) -> None:
    s, v = sample(time)
    assert_agree(lambda s, v: prefix_attention(s, v, chunk=chunk), prefix_attention_ref, (s, v))
    assert_agree(
        lambda s, v, m, u, w: prefix_attention(s, v, (m, u, w), chunk=chunk),
        lambda s, v, m, u, w: prefix_attention_ref(s, v, (m, u, w)),
        (s, v, *start()),
    )


def test_is_the_softmax_average_of_every_prefix() -> None:
    s, v = sample(9)
    o, _ = prefix_attention(s, v, chunk=4)
    for t in range(9):
        weights = s[:, : t + 1].softmax(1)
        assert_close(o[:, t], (weights[..., None] * v[:, : t + 1]).sum(1))


def test_scores_of_any_size_give_finite_results_and_gradients() -> None:
    s, v = sample(50, 1e4, torch.float32)
    assert_finite(lambda s, v: prefix_attention(s, v, chunk=16), (s, v))
    assert_close(prefix_attention(s, v, chunk=16)[0], prefix_attention_ref(s, v)[0])


def test_a_longer_sequence_is_computed_in_pieces() -> None:
    s, v = sample(5000)
    o, (m, u, w) = prefix_attention(s[:, :, :1], v[:, :, :1])
    head, state = prefix_attention(s[:, :4500, :1], v[:, :4500, :1])
    tail, end = prefix_attention(s[:, 4500:, :1], v[:, 4500:, :1], state)
    assert_close(o, torch.cat([head, tail], 1))
    for a, b in zip((m, u, w), end, strict=True):
        assert_close(a, b)
