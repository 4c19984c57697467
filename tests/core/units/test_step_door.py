"""The door of `step`: a token or a state of another shape is refused before compiled code can read it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import core
from core import registry
from core.kernels.gated_loop import gated_loop, gated_step
from core.state import map_state
from core.units.contract import Unit

WIDTH = 8
every_unit = pytest.mark.parametrize("name", registry.names())
GRADIENTS = (False, True)


def doors(name: str) -> list[Any]:
    torch.manual_seed(0)
    return [core.build(name, WIDTH).eval(), core.stack(name, WIDTH, layers=2).eval()]


@every_unit
@pytest.mark.parametrize(
    "shape", [(3, 1, WIDTH), (WIDTH,), (3, 1), (3, WIDTH - 1), (3, WIDTH + 1), (3, 5000)]
)
def test_a_token_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    for door in doors(name):
        state = door.initial_state(torch.zeros(3, 1, WIDTH))
        for gradients in GRADIENTS:
            with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=r"\(B, 8\), got"):
                door.step(torch.randn(shape), state)


@every_unit
def test_a_state_that_does_not_fit_is_refused(name: str) -> None:
    token = torch.randn(3, WIDTH)
    wrong: list[Callable[[Tensor], Tensor]] = [
        lambda part: part[:1],
        lambda part: torch.cat([part, part]),
        lambda part: part[..., :-1],
        lambda part: part.unsqueeze(1),
    ]
    for door in doors(name):
        state = door.initial_state(token)
        door.step(token, state)  # what was right once is remembered, and must not let others pass
        for change in wrong:
            for gradients in GRADIENTS:
                with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match="expects a state"):
                    door.step(token, map_state(change, state))
        for other in (5, "state", (), [1.0]):
            with pytest.raises(ValueError, match="state"):
                door.step(token, other)


@every_unit
def test_no_state_is_the_initial_one(name: str) -> None:
    token = torch.randn(3, WIDTH)
    for door in doors(name):
        with torch.no_grad():
            assert torch.equal(door.step(token, None)[0], door.step(token, door.initial_state(token))[0])
            door.step(token[:2], None)  # another number of rows is another state
            door.step(token, door.initial_state(token))


def test_integers_are_no_tokens() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        core.build("gru", WIDTH).step(torch.ones(3, WIDTH, dtype=torch.long), torch.zeros(3, WIDTH))


class Sum(Unit):
    """A unit of somebody else's."""

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x + state, x + state


class Doubled(Sum):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = super().step(x, state)
        return 2 * y, state


@pytest.mark.parametrize("cls", [Sum, Doubled])
def test_units_of_ones_own_inherit_the_door(cls: type[Unit]) -> None:
    unit = cls(4, 4)
    y, _ = unit.step(torch.ones(2, 4), torch.ones(2, 4))
    assert (y == (2 if cls is Sum else 4)).all()
    for token, state in [((2, 1, 4), (2, 4)), ((4,), (2, 4)), ((1, 4), (2, 4)), ((2, 4), (2, 1, 4))]:
        with pytest.raises(ValueError, match=cls.__name__):
            unit.step(torch.ones(token), torch.ones(state))


@pytest.mark.parametrize(("width", "rows"), [(1, 3), (9, 3), (8, 1), (8, 4)])
def test_compiled_loops_compare_sizes_too(width: int, rows: int) -> None:
    unit = core.build("gru", WIDTH)
    state, (weight, bias) = (torch.zeros(rows, WIDTH),), unit.input_weights()
    for compute, shape, gradients in (
        (gated_loop, (3, 5, width), True),
        (gated_loop, (3, 5, width), False),
        (gated_step, (3, width), False),
    ):
        with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match="expects x of width 8"):
            compute(unit.cell, torch.ones(shape), weight, bias, state, unit.weights())
