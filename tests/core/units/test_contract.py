"""The contract battery on every registered unit, and the battery on units that break a promise."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from core import battery, registry
from core.battery import CHECKS, CONTRACT, Subject, compare_modes, finite_differences
from core.units.contract import Unit
from tests.core.units.variants import VARIANTS

CASES = [(name, options) for name in registry.names() for options in [{}, *VARIANTS.get(name, [])]]
IDS = [name + "".join(f"-{key}={value}" for key, value in options.items()) for name, options in CASES]
every_unit = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)


WITH_OPTIONS = [
    pytest.param(
        name, options, promise, marks=[pytest.mark.slow] if options and promise not in CONTRACT else []
    )
    for name, options in CASES
    for promise in CHECKS
]
"""What the contract itself promises, under all options; the rest under options in the long suite only."""


@pytest.mark.parametrize(
    ("name", "options", "promise"),
    WITH_OPTIONS,
    ids=[f"{promise.__name__}-{case}" for case in IDS for promise in CHECKS],
)
def test_contract(name: str, options: dict[str, Any], promise: Callable[[Subject], None]) -> None:
    promise(Subject(name, options))


@pytest.mark.slow
@every_unit
def test_gradients_of_all_modes_are_those_of_finite_differences(name: str, options: dict[str, Any]) -> None:
    subject = Subject(name, options)
    finite_differences(subject, subject.make().modes, 4)


@pytest.mark.slow
@every_unit
def test_all_modes_agree_from_any_start_at_any_length(name: str, options: dict[str, Any]) -> None:
    compare_modes(Subject(name, options), product((1, 11, 37), (False, True)))


class Leaky(Unit):
    """A unit of somebody's, right in everything."""

    paper = "nobody 2026"

    def __init__(self, input_size: int, hidden_size: int, *, rate: float = 0.5) -> None:
        super().__init__(input_size, hidden_size)
        self.rate = rate
        self.inner = torch.nn.Linear(input_size, hidden_size)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = self.rate * state + self.inner(x).tanh()
        return h, h


class Forgetful(Leaky):
    """Forgets its state between calls."""

    def run(self, x: Tensor, state: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        return super().run(x, torch.zeros_like(state), mode)


class Mixed(Leaky):
    """Rows see each other."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = super().step(x, state)
        return y + x.mean(0).sum(), state


class Fixed(Unit):
    """A unit without anything to learn."""

    paper = "nobody 2026"

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.5 * state + x.mean(1, keepdim=True)
        return h, h


@pytest.mark.parametrize(("cls", "options"), [(Leaky, {"rate": 0.3}), (Fixed, {})])
def test_a_unit_of_ones_own_passes(cls: type[Unit], options: dict[str, Any]) -> None:
    kept = battery.check(cls, **options)
    assert kept == [promise.__name__ for promise in CHECKS]


@pytest.mark.parametrize(("cls", "word"), [(Forgetful, "modes agree"), (Mixed, "run|rows|alone")])
def test_a_broken_promise_is_named(cls: type[Unit], word: str) -> None:
    with pytest.raises(AssertionError, match=word):
        battery.check(cls)
