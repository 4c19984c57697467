"""Weights, state and optimiser in one file."""

from pathlib import Path

import pytest
import torch

import core
from core.errors import DataError, WeightsError
from core.streaming import load, save


def learner(width: int = 4) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    unit = core.build("lstm", width)
    return unit, torch.optim.AdamW(unit.parameters(), lr=1e-2)


def advance(unit: torch.nn.Module, optimizer: torch.optim.Optimizer, state: object) -> object:
    y, state = unit(torch.ones(1, 3, 4), state)
    optimizer.zero_grad()
    y.square().sum().backward()
    optimizer.step()
    return core.state.detach(state)


def test_a_learner_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    unit, optimizer = learner()
    state = advance(unit, optimizer, None)
    save(tmp_path / "a", unit, state, optimizer, {"seen": 3})
    state = advance(unit, optimizer, state)
    other, its = learner()
    kept, facts = load(tmp_path / "a", other, its)
    kept = advance(other, its, kept)
    assert facts == {"seen": 3}
    assert all(torch.equal(a, b) for a, b in zip(unit.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_another_model_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    unit, optimizer = learner()
    save(tmp_path / "a", unit, None, optimizer)
    wide, its = learner(5)
    before = wide.weight_ih.clone()
    with pytest.raises(WeightsError, match="of another model"):
        load(tmp_path / "a", wide, its)
    assert torch.equal(before, wide.weight_ih)
    save(tmp_path / "b", unit)
    with pytest.raises(WeightsError, match="no optimiser"):
        load(tmp_path / "b", unit, optimizer)


def test_what_is_no_learner_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a saved learner"):
        load(tmp_path / "a", learner()[0])
    with pytest.raises(DataError, match="not a saved learner"):
        load(tmp_path / "missing", learner()[0])
