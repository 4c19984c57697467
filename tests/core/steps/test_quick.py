"""A step that is asked for often becomes one compiled call, and nobody can tell but by the clock."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from inspect import unwrap
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations
from torch.testing import assert_close

import core
from core.state import map_state, tensors
from core.steps import quick
from core.steps.way import Way
from core.units.contract import Unit


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "OFTEN", 2)


def noisy(unit: Any) -> Any:
    with torch.no_grad():
        for part in unit.parameters():
            part.add_(0.1 * torch.randn_like(part))
    return unit


def way(unit: Unit) -> Way | None:
    return unit.__dict__["_quick"].way


@torch.no_grad()
def follow(
    unit: Any, dtype: torch.dtype = torch.float32, tolerance: float = 2e-5, batch: int = 2, steps: int = 6
) -> None:
    """Steps beside the definition, each from a state of its own."""
    step = unwrap(type(unit).step)
    state = other = unit.initial_state(torch.zeros(batch, unit.input_size, dtype=dtype))
    for _ in range(steps):
        x = torch.randn(batch, unit.input_size, dtype=dtype)
        y, state = unit.step(x, state)
        wanted, other = step(unit, x, other)
        assert_close(y, wanted, rtol=tolerance, atol=tolerance)
        for ours, theirs in zip(tensors(state), tensors(other), strict=True):
            assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", core.unit_names())
def test_every_unit_becomes_quick_and_stays_right(name: str) -> None:
    unit = noisy(core.build(name, 8))
    follow(unit)
    made = way(unit)
    assert made is not None
    with torch.no_grad():
        for part in unit.parameters():
            part.data.mul_(1.1)  # nobody counts this
    follow(unit, steps=3)


@pytest.mark.parametrize("name", ["gru", "lru", "mamba2"])
def test_in_float64_too(name: str) -> None:
    unit = noisy(core.build(name, 40)).double()
    follow(unit, torch.float64, 1e-11)
    assert way(unit) is not None
    with torch.no_grad():
        next(unit.parameters()).mul_(0.5)
    follow(unit, torch.float64, 1e-11)


def test_weights_of_products_are_read_where_they_lie() -> None:
    unit = noisy(core.build("gru", 48))
    follow(unit)
    made = way(unit)
    for parameter in unit.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW([unit.weight_ih, unit.weight_hh], lr=0.1, fused=True).step()
    follow(unit)
    assert way(unit) is made


def test_other_parts_are_noticed() -> None:
    unit = noisy(core.build("s4d", 8))
    follow(unit)
    unit.log_dt.data = unit.log_dt.data * 0.5
    follow(unit)
    unit.step_bias = 0.0  # any attribute may matter
    assert "_quick" not in unit.__dict__
    follow(unit)
    linear = core.build("gla", 8)
    follow(linear)
    name = next(name for name, part in linear.named_parameters() if part.ndim == 2)
    home, _, leaf = name.rpartition(".")
    parametrizations.weight_norm(linear.get_submodule(home), leaf)
    follow(linear)


def test_chance_gradients_transforms_and_many_rows_stay_eager() -> None:
    dropped = core.build("gru", 8, weight_drop=0.5)
    x = torch.randn(1, 8)
    with torch.no_grad():
        found = [dropped.step(x, torch.ones(1, 8))[0] for _ in range(8)]
    assert way(dropped) is None
    assert len({tuple(y.flatten().tolist()) for y in found}) > 1
    follow(dropped.eval())
    unit = core.build("gru", 8)
    follow(unit, batch=quick.FEW + 1)
    assert way(unit) is None
    follow(unit, batch=1)
    assert way(unit) is not None
    follow(unit, batch=2)  # the other rhythm takes its turn
    follow(unit, batch=2)
    made = way(unit)
    assert made is not None
    assert made.shape[0] == 2
    y, _ = unit.step(x.expand(2, 8), None)
    assert y.requires_grad
    with torch.no_grad():
        each = torch.func.vmap(lambda row: unit.step(row[None], None)[0][0])(torch.randn(2, 8))
        assert each.shape == (2, 8)
        with torch.autocast("cpu", torch.bfloat16):
            assert unit.step(torch.ones(2, 8), None)[0].dtype == torch.float32


class Elsewhere(Unit):
    """Computes in numpy, where nobody can write it down."""

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.from_numpy(np.tanh(x.detach().numpy() + state.detach().numpy()))
        return h.clone(), h


class Choosy(Elsewhere):
    """Does one thing or another."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = state + x if float(x.sum()) > 0 else state - x
        return h.clone(), h


class Counting(Elsewhere):
    """Keeps a number to itself."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = getattr(self, "seen", 0) + 1
        h = state + x * self.seen
        return h.clone(), h


class Slow(Elsewhere):
    """Torch alone."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.5 * state + x
        return h.clone(), h


class Louder(Slow):
    """Builds on the step of another unit."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = super().step(x, state)
        return 3 * y, state


def test_a_step_may_build_on_that_of_another_unit() -> None:
    for cls in (Slow, Louder):
        unit = cls(6, 6)
        follow(unit)
        assert way(unit) is not None
        follow(unit)


@pytest.mark.parametrize("cls", [Elsewhere, Choosy])
def test_what_cannot_be_written_down_stays_eager(cls: type[Unit]) -> None:
    unit = cls(6, 6)
    follow(unit)
    assert way(unit) is None
    assert not core.streaming.open(unit).compiled


def test_a_unit_that_changes_itself_stays_eager() -> None:
    unit, x = Counting(3, 3), torch.ones(1, 3)
    state = None
    with torch.no_grad():
        for _ in range(8):
            y, state = unit.step(x, state)
    assert y[0, 0] == sum(range(1, 9))


def test_strided_tokens_states_and_answers_have_memory_of_their_own() -> None:
    unit = noisy(core.build("slstm", 8))
    follow(unit)
    x = torch.randn(8, 2).T
    state = map_state(lambda part: part.repeat(2, 1)[::2], unit.step(torch.randn(2, 8), None)[1])
    wanted, _ = unit.step(x, state)
    with torch.no_grad():
        y, after = unit.step(x, state)
        assert_close(y, wanted.detach(), rtol=1e-5, atol=1e-5)
        kept = [part.clone() for part in tensors(after)]
        y.fill_(9)
        unit.step(torch.randn(2, 8), None)
    for part, other in zip(tensors(after), kept, strict=True):
        assert torch.equal(part, other)


def test_copies_count_anew_and_threads_do_not_meet() -> None:
    unit = noisy(core.build("lstm", 8))
    follow(unit)
    for twin in (copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))):
        assert way(twin) is None
        follow(twin)

    def run(seed: int) -> Tensor:
        x, state = torch.randn(300, 2, 8, generator=torch.Generator().manual_seed(seed)), None
        with torch.no_grad():
            for token in x:
                y, state = unit.step(token, state)
        return y

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, [0, 1, 2, 3]))
    for seed, y in enumerate(found):
        assert_close(y, run(seed), rtol=1e-5, atol=1e-5)
