"""The loop of a GPU on a CPU, where torch computes its layer: the definition, twice differentiable."""

from typing import Any

import pytest
import torch

import core
from core.kernels.gated_loop import gpu, plain_loop
from core.state import map_state, tensors


def sample(name: str, options: dict[str, Any]) -> tuple[Any, list[Any], list[torch.Tensor]]:
    torch.manual_seed(0)
    unit = core.build(name, 5, 7, **options)
    x = torch.randn(3, 9, 5, requires_grad=True)
    state = [part.requires_grad_() for part in tensors(map_state(torch.randn_like, unit.initial_state(x)))]
    return unit, [x, *unit.input_weights(), *state, *unit.weights()], [x, *state, *unit.parameters()]


@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 9, 1])])
@pytest.mark.parametrize(
    ("name", "options"), [("lstm", {}), ("gru", {}), ("gru", {"bias": False}), ("gru", {"update": "write"})]
)
def test_it_equals_the_definition_in_all_derivatives(name: str, options: Any, lengths: Any) -> None:
    unit, inputs, leaves = sample(name, options)
    states = len(inputs) - 3 - len(unit.weights())
    found = []
    for loop in (gpu.compiled_loop, definition):
        y, final = loop(unit.cell, states, inputs, lengths)
        first = torch.autograd.grad(y.square().sum() + final[0].sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(part.sum() for part in first), leaves)
        found.append([y, *final, *first, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


def definition(cell: Any, states: int, inputs: list[Any], lengths: Any) -> Any:
    return plain_loop(cell, *inputs[:3], tuple(inputs[3 : 3 + states]), tuple(inputs[3 + states :]), lengths)


@pytest.mark.parametrize(
    ("name", "options"),
    [("lstm", {"peephole": True}), ("lstm", {"projection": 2}), ("gru", {"reset": "before"}), ("mgu", {})],
)
def test_other_cells_and_types_take_the_definition(name: str, options: dict[str, Any]) -> None:
    unit, inputs, _ = sample(name, options)
    assert gpu.library_kind(unit.cell, unit.weights()) is None
    y, _ = gpu.compiled_loop(unit.cell, len(inputs) - 3 - len(unit.weights()), inputs)
    torch.testing.assert_close(y, unit(inputs[0], tuple_or_one(inputs, unit))[0])


def tuple_or_one(inputs: list[Any], unit: Any) -> Any:
    state = inputs[3 : len(inputs) - len(unit.weights())]
    return state[0] if len(state) == 1 else tuple(state)


def test_the_switch_of_tf32_follows_that_of_other_products() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for precision, allowed in (("highest", False), ("high", True)):
            torch.set_float32_matmul_precision(precision)
            assert gpu.tf32_allowed() is allowed
            with gpu.precise(allowed):
                assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.set_float32_matmul_precision(before)
    with gpu.precise(True):
        assert torch.backends.cudnn.allow_tf32
