import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.plstm.grid import Gates, plstm_grid, plstm_grid_ref, skewed, straight
from tests.core.kernels.agreement import assert_agree


def sample(width: int, height: int, dk: int, dv: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """q, k, v, direct and the eight gates for JT, JK, JV, JO, JQ."""
    jt, jk, jv, jo, jq = sizes
    shapes = [(dk, jq), (dk, jk), (dv, jv), (jo, jq, jk, jv), (jt, jk, jv), (jt, jk, jv)]
    shapes += [(jt, jt)] * 4 + [(jo, jq, jt)] * 2
    return tuple(torch.randn(2, width, height, *shape, dtype=torch.float64) / 2 for shape in shapes)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 2, 3, 2, 2)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (5, 1), (3, 4), (4, 2)])
@pytest.mark.parametrize("widths", [(2, 2), (5, 4)])  # states of numbers per node pair, and of k v^T
def test_equals_the_definition(
    grid: tuple[int, int], widths: tuple[int, int], sizes: tuple[int, ...]
) -> None:
    assert_agree(
        lambda q, k, v, direct, *gates: plstm_grid(q, k, v, Gates(*gates), direct),
        lambda q, k, v, direct, *gates: plstm_grid_ref(q, k, v, Gates(*gates), direct),
        sample(*grid, *widths, sizes),
    )


def test_without_a_direct_gate_a_node_does_not_see_itself() -> None:
    q, k, v, _, *gates = sample(3, 3, 4, 4, (1, 1, 1, 1, 1))
    y = plstm_grid(q, k, v, Gates(*gates))
    assert_close(y, plstm_grid_ref(q, k, v, Gates(*gates)))
    assert not y[:, 0, 0].any()


def test_skewing_can_be_undone() -> None:
    x = torch.arange(24.0).view(1, 4, 3, 2)
    moved = skewed(x)
    assert moved.shape == (1, 4, 6, 2)
    assert_close(moved[0, 2, 3], x[0, 2, 1])
    assert_close(straight(moved, 3), x)
