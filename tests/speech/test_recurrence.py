"""Torch's own LSTM in place of our loop: the same numbers, states and directions."""

import pytest
import torch

from core.blocks.directions import run_directions
from speech.models.recurrence import LIBRARY_TOKENS, Recurrence, library_here


@pytest.mark.parametrize("directions", [1, 2])
@torch.no_grad()
def test_the_library_gives_what_the_units_give(directions: int) -> None:
    torch.manual_seed(0)
    layer = Recurrence("lstm", 5, 6, directions=directions)
    x = torch.randn(64, LIBRARY_TOKENS // 64, 5)
    states = tuple((torch.randn(64, 6), torch.randn(64, 6)) for _ in range(directions))
    for begin in (None, states):
        assert library_here(layer.units, x)
        y, final = layer(x, begin)
        wanted, ends = run_directions(list(layer.units), x, begin)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(final, ends)


def test_it_runs_without_gradient_for_plain_lstms_alone() -> None:
    plain, other = Recurrence("lstm", 5, 6), Recurrence("gru", 5, 6)
    x = torch.randn(1, LIBRARY_TOKENS, 5)
    assert not library_here(plain.units, x)
    with torch.no_grad():
        assert library_here(plain.units, x)
        assert not library_here(plain.units, x[:, 1:])
        assert not library_here(plain.units, x.double())
        assert not library_here(other.units, x)
        assert not library_here(Recurrence("lstm", 5, 6, peephole=True).units, x)
