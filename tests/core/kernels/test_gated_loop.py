"""The compiled gated loop against its definition, and the products and gate functions it is made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core.kernels.gated_loop import Cell, gated_loop, plain_loop
from core.kernels.gated_loop import cpu as gated_loop_cpu
from core.kernels.matmul import add_outer, add_rows, multiply_panels, multiply_rows, multiply_turning, pack
from core.kernels.vector_math import compiled, exp, sigmoid, tanh

CELLS = [
    ("rnn", {}),
    ("rnn", {"activation": "relu"}),
    ("lstm", {}),
    ("lstm", {"peephole": True}),
    ("lstm", {"input_gate": False, "peephole": True}),
    ("lstm", {"forget_gate": False}),
    ("lstm", {"output_gate": False, "peephole": True}),
    ("lstm", {"squash_input": False, "squash_output": False}),
    ("lstm", {"coupled": True, "peephole": True}),
    ("gru", {}),
    ("gru", {"reset": "before"}),
    ("gru", {"update": "write"}),
    ("mgu", {}),
    ("indrnn", {}),
    ("lem", {"dt": 0.5}),
    ("slstm", {"heads": 3}),
]
every_cell = pytest.mark.parametrize(
    ("name", "options"),
    CELLS,
    ids=[name + "".join(f"-{key}={value}" for key, value in options.items()) for name, options in CELLS],
)


def setting(name: str, options: dict[str, Any], batch: int, time: int) -> tuple[Cell, list[Any], int]:
    """A cell, its inputs as leaves (x, W, b, states, weights), and how many states it has."""
    torch.manual_seed(0)
    unit = core.build(name, 5, 36, **options).double()
    for parameter in unit.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(batch, time, 5, dtype=torch.float64)
    state = unit(torch.randn(batch, 3, 5, dtype=torch.float64))[1]
    state = (state,) if isinstance(state, Tensor) else state
    inputs = [x, *unit.input_weights(), *state, *unit.weights()]
    leaves = [part if part is None else part.detach().clone().requires_grad_() for part in inputs]
    return unit.cell, leaves, len(state)


def results(loop: Callable[..., Any], cell: Cell, leaves: list[Any], states: int) -> list[Tensor]:
    """Outputs, final states and all gradients."""
    x, weight_ih, bias, *rest = leaves
    y, final = loop(cell, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]))
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum() for part in (y, *final)
    )
    wanted = [leaf for leaf in leaves if leaf is not None]
    return [y, *final, *torch.autograd.grad(loss, wanted)]  # pyright: ignore[reportArgumentType]


@every_cell
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (13, 9)])
def test_compiled_equals_the_definition(name: str, options: dict[str, Any], batch: int, time: int) -> None:
    setup = setting(name, options, batch, time)
    for ours, plain in zip(results(gated_loop, *setup), results(plain_loop, *setup), strict=True):
        assert_close(ours, plain, rtol=1e-10, atol=1e-11)


@every_cell
def test_a_sequence_in_pieces_equals_the_definition(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated_loop_cpu, "PIECE", 1000)
    setup = setting(name, options, 4, 23)
    for ours, plain in zip(results(gated_loop, *setup), results(plain_loop, *setup), strict=True):
        assert_close(ours, plain, rtol=1e-10, atol=1e-11)


@every_cell
@pytest.mark.parametrize("batch", [2, 9])
def test_pieces_without_gradients_equal_the_definition(
    name: str, options: dict[str, Any], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated_loop_cpu, "PASSING", 1500)
    cell, (x, weight_ih, bias, *rest), states = setting(name, options, batch, 23)
    parts = tuple(rest[:states]), tuple(rest[states:])
    with torch.no_grad():
        ours, plain = (loop(cell, x, weight_ih, bias, *parts) for loop in (gated_loop, plain_loop))
    for one, other in zip((ours[0], *ours[1]), (plain[0], *plain[1]), strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_second_derivatives_equal_those_of_the_definition(name: str) -> None:
    cell, leaves, states = setting(name, {}, 2, 3)
    x = leaves[0]
    found = []
    for loop in (gated_loop, plain_loop):
        y, _ = loop(cell, *leaves[:3], tuple(leaves[3 : 3 + states]), tuple(leaves[3 + states :]))
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, leaves[1]]))
    for ours, plain in zip(*found, strict=True):
        assert_close(ours, plain, rtol=1e-9, atol=1e-10)


def test_forward_mode_derivatives_take_the_definition() -> None:
    unit = core.build("gru", 4).double()
    x, direction = torch.randn(2, 3, 4, 4).double()[0], torch.randn(3, 4, 4).double()
    _, ours = torch.func.jvp(lambda x: unit(x)[0], (x,), (direction,))
    step = 1e-6
    numeric = (unit(x + step * direction)[0] - unit(x - step * direction)[0]) / (2 * step)
    assert_close(ours, numeric.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_export_gives_a_graph_of_plain_operators(name: str) -> None:
    unit, x = core.build(name, 4), torch.randn(2, 3, 4)
    program = torch.export.export(unit, (x,))
    assert_close(program.module()(x)[0], unit(x)[0], rtol=1e-5, atol=1e-6)


def test_a_graph_can_be_walked_back_twice() -> None:
    unit, x = core.build("lstm", 4), torch.randn(2, 3, 4, requires_grad=True)
    loss = unit(x)[0].square().sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)


def test_changing_the_output_in_place_is_refused() -> None:
    unit, x = core.build("lstm", 4), torch.randn(2, 3, 4, requires_grad=True)
    y, _ = unit(x)
    with pytest.raises(RuntimeError, match=r"in-?place"):
        y.zero_()


def test_a_step_without_gradients_equals_one_with() -> None:
    for name, options in CELLS:
        unit = core.build(name, 6, **{**options, **({"heads": 2} if name == "slstm" else {})})
        for batch in (1, 20):
            x = torch.randn(batch, 6)
            y, state = unit.step(x, unit.initial_state(x))
            with torch.no_grad():
                quick, after = unit.step(x, unit.initial_state(x))
            assert_close(quick, y.detach(), rtol=1e-5, atol=1e-6)
            del state, after


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "inner", "width"), [(1, 3, 5), (7, 33, 64), (15, 9, 40), (130, 17, 70)])
def test_products_equal_numpy(dtype: Any, rows: int, inner: int, width: int) -> None:
    generator = np.random.default_rng(0)
    a, matrix, start = (
        generator.standard_normal(shape).astype(dtype)
        for shape in ((rows, inner), (inner, width), (rows, width))
    )
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    panels, out = pack(matrix), np.empty((rows, width), dtype)
    multiply_panels(a, panels, start, out)
    np.testing.assert_allclose(out, start + a @ matrix, tolerance, tolerance)
    multiply_panels(np.ascontiguousarray(a.T).T, panels, start[:1], out)
    np.testing.assert_allclose(out, start[:1] + a @ matrix, tolerance, tolerance)
    for step in (0, 1):
        multiply_turning(a, panels, start[:1], out, step)
        np.testing.assert_allclose(out, start[:1] + a @ matrix, tolerance, tolerance)
    multiply_rows(a, np.ascontiguousarray(matrix.T), start, out)
    np.testing.assert_allclose(out, start + a @ matrix, tolerance, tolerance)
    gradient, total = np.ones((inner, width), dtype), np.zeros(width, dtype)
    add_outer(a, start, gradient)
    add_rows(start, total)
    np.testing.assert_allclose(gradient, 1 + a.T @ start, 10 * tolerance, 10 * tolerance)
    np.testing.assert_allclose(total, start.sum(0), 10 * tolerance, 10 * tolerance)


@compiled
def three(x, s, t, e):  # noqa: ANN001, ANN201
    for j in range(x.size):
        s[j], t[j], e[j] = sigmoid(x[j]), tanh(x[j]), exp(x[j])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gate_functions_are_accurate_to_the_last_digits(dtype: Any) -> None:
    x = np.concatenate([np.linspace(-40, 40, 100_001), np.geomspace(1e-20, 1, 1000)]).astype(dtype)
    s, t, e = (np.empty_like(x) for _ in range(3))
    three(x, s, t, e)
    exact = x.astype(np.float64)
    tolerance = 2.5e-7 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(s, 1 / (1 + np.exp(-exact)), tolerance)
    np.testing.assert_allclose(t, np.tanh(exact), tolerance)
    np.testing.assert_allclose(e, np.exp(exact), tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gate_functions_saturate_and_keep_nan(dtype: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], dtype)
    s, t, e = (np.empty_like(x) for _ in range(3))
    three(x, s, t, e)
    np.testing.assert_allclose(s, [np.nan, 1, 0, 1, 0], atol=1e-37)
    np.testing.assert_allclose(t, [np.nan, 1, -1, 1, -1])
    assert np.isnan(e[0])
    assert e[2] < 1e-37


def test_a_cell_of_ones_own_runs_on_the_plain_loop() -> None:
    leaky = Cell(lambda gates, state, weights: ((0.5 * (gates + state[0])), (0.5 * (gates + state[0]),)))
    x = torch.ones(1, 3, 2)
    y, (last,) = gated_loop(leaky, x, torch.eye(2), None, (torch.zeros(1, 2),), ())
    assert_close(y[0, :, 0], torch.tensor([0.5, 0.75, 0.875]))
    assert_close(last, y[:, -1])
