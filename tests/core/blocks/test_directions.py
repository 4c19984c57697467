"""Units over one sequence: the library's loop equals the units, rows of different length the rows alone."""

from typing import Any

import pytest
import torch

import core
from core.blocks.directions import run_directions, shared_kind
from core.kernels.gated_loop import cudnn_layer

LENGTHS = torch.tensor([4, 9, 1])


def pair(name: str, count: int) -> list[Any]:
    torch.manual_seed(5)
    return [core.build(name, 3, 4) for _ in range(count)]


def begun(units: list[Any]) -> list[Any]:
    """States that are not zero."""
    return [
        core.state.map_state(torch.randn_like, unit.initial_state(torch.zeros(3, 9, 3))) for unit in units
    ]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_library_gives_the_same_outputs_states_and_gradients(name: str, count: int) -> None:
    units = pair(name, count)
    states, x = begun(units), torch.randn(3, 9, 3, requires_grad=True)
    weights = [(unit.weight_ih, unit.weight_hh, unit.bias_ih, unit.bias_hh) for unit in units]
    parts = [state if isinstance(state, tuple) else (state,) for state in states]
    y, ends = run_directions(units, x, states)
    expected = torch.autograd.grad(y.square().sum(), [x, *units[0].parameters()])
    found, own = cudnn_layer(name, weights, x, parts)
    torch.testing.assert_close(found, y, atol=1e-6, rtol=1e-5)
    for end, other in zip(ends or (), own, strict=True):
        torch.testing.assert_close(other, end if isinstance(end, tuple) else (end,), atol=1e-6, rtol=1e-5)
    again = torch.autograd.grad(found.square().sum(), [x, *units[0].parameters()])
    for a, b in zip(again, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_library_ends_each_row_where_it_ends(name: str) -> None:
    units, x = pair(name, 2), torch.randn(3, 9, 3)
    states = begun(units)
    weights = [(unit.weight_ih, unit.weight_hh, unit.bias_ih, unit.bias_hh) for unit in units]
    parts = [state if isinstance(state, tuple) else (state,) for state in states]
    y, ends = cudnn_layer(name, weights, x, parts, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, own = run_directions(
            units, x[row : row + 1, :length], core.state.rows(states, slice(row, row + 1))
        )
        torch.testing.assert_close(y[row, :length], alone[0], atol=1e-6, rtol=1e-5)
        assert (y[row, length:] == 0).all()
        for end, other in zip(own or (), ends, strict=True):
            h = end[0] if isinstance(end, tuple) else end
            torch.testing.assert_close(other[0][row], h[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "min_gru", "mamba"])
def test_rows_of_different_length_equal_the_rows_alone(name: str) -> None:
    units, x = pair(name, 2), torch.randn(3, 9, 3)
    y, ends = run_directions(units, x, lengths=LENGTHS)
    assert ends is None
    for row, length in enumerate(LENGTHS.tolist()):
        alone, _ = run_directions(units, x[row : row + 1, :length])
        torch.testing.assert_close(y[row, :length], alone[0], atol=1e-6, rtol=1e-5)
        assert (y[row, length:] == 0).all()


@pytest.mark.parametrize(
    ("name", "options", "library"),
    [
        ("lstm", {}, "lstm"),
        ("lstm", {"peephole": True}, None),
        ("lstm", {"projection": 2}, None),
        ("lstm", {"coupled": True}, None),
        ("lstm", {"bias": False}, None),
        ("gru", {}, "gru"),
        ("gru", {"reset": "before"}, None),
        ("gru", {"update": "write"}, None),
        ("rnn", {}, None),
    ],
)
def test_units_say_which_layer_of_torch_they_are(name: str, options: dict[str, Any], library: str) -> None:
    unit = core.build(name, 3, 4, **options)
    assert unit.library == library
    assert shared_kind([unit], torch.zeros(1, 1, 3), None) is None  # no GPU here


def test_a_third_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="one or two directions, got 3"):
        run_directions(pair("gru", 3), torch.zeros(1, 2, 3))
