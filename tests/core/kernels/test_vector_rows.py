"""IndRNN's loop over rows one after another equals its definition, row by row, in all derivatives."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core.kernels.gated_loop.vector_rows import by_padding, vector_rows

LENGTHS = [3, 0, 7, 1]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_rows_equal_their_definition(activation: str) -> None:
    torch.manual_seed(0)
    cell = core.build("indrnn", 4, activation=activation).cell
    gates = torch.randn(sum(LENGTHS), 4, dtype=torch.float64, requires_grad=True)
    vector, h0 = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4,), (4, 4)))
    leaves = [gates, vector, h0]
    found = []
    for loop in (vector_rows, by_padding):
        h = loop(cell, gates, vector, h0, LENGTHS)
        first = torch.autograd.grad(h.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), leaves)
        found.append([h, *first, *second])
    assert_close(found[0], found[1])


def test_a_row_is_its_own_sequence() -> None:
    torch.manual_seed(0)
    unit = core.build("indrnn", 5, 4)
    x = torch.randn(4, 7, 5)
    for row, length in enumerate(LENGTHS):
        x[row, length:] = torch.nan
    state = torch.randn(4, 4)
    y, end = core.stack([unit], 5)(x, (state,), lengths=torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone: tuple[Tensor, Tensor] = unit(x[row : row + 1, :length], state[row : row + 1])
        assert_close(y[row : row + 1, :length], alone[0])
        assert_close(end[0][row : row + 1], alone[1])
        assert not y[row, length:].any()
