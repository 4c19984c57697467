"""Equality with reference implementations on outputs, final states and gradients."""

import pytest
import torch

import tests.core.golden_adapters  # noqa: F401
from tests.golden import Entry, check, entries

REACHED = ("linear_rnn/ttt_linear.npz",)
"""Entries of the later scopes that are computed already."""
ASKED = entries("core", "foundation", "fast") + [e for e in entries("core", "wide") if e.file in REACHED]


@pytest.mark.parametrize("entry", ASKED, ids=str)
def test_golden(entry: Entry) -> None:
    check(entry, torch.float64)
    check(entry, torch.float32)
