"""State as a plain value."""

from pathlib import Path

import pytest
import torch

from core import state
from core.errors import DataError

NESTED = (torch.arange(6.0).view(3, 2), (torch.arange(3), torch.ones(3, 2, 2, dtype=torch.complex64)))


def test_a_state_survives_a_file(tmp_path: Path) -> None:
    state.save(NESTED, tmp_path / "state.safetensors")
    again = state.load(tmp_path / "state.safetensors")
    for a, b in zip(state.tensors(again), state.tensors(NESTED), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    assert state.shapes(again) == ((3, 2), ((3,), (3, 2, 2)))


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a state")
    with pytest.raises(DataError, match="not a saved recurrent state"):
        state.load(tmp_path / "x")
    with pytest.raises(DataError, match="not a saved recurrent state"):
        state.load(tmp_path / "missing")


def test_beams_are_rows() -> None:
    picked = state.rows(NESTED, torch.tensor([2, 0]))
    assert picked[0].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert picked[1][0].tolist() == [2, 0]


def test_casting_leaves_counters_alone() -> None:
    moved = state.to(NESTED, torch.float64)
    assert moved[0].dtype == torch.float64
    assert moved[1][0].dtype == torch.int64


def test_size_counts_numbers_per_row() -> None:
    assert state.size(NESTED) == 2 + 1 + 4


def test_detach_cuts_the_graph() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    assert not state.detach((x * 2,))[0].requires_grad
