"""Equality with reference implementations on outputs, final states and gradients."""

import pytest
import torch

import tests.core.golden_adapters  # noqa: F401
from tests.golden import Entry, check, entries


@pytest.mark.parametrize("entry", entries("core", "foundation", "fast"), ids=str)
def test_golden(entry: Entry) -> None:
    check(entry, torch.float64)
    check(entry, torch.float32)
