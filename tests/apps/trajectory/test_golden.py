"""Equality with reference implementations: published networks, filters, metrics and resampling."""

import pytest

from tests.apps.trajectory import golden_cases, golden_vector
from tests.golden import Entry, entries


@pytest.mark.parametrize("entry", entries("apps", "foundation"), ids=str)
def test_golden(entry: Entry) -> None:
    arrays = entry.arrays()
    if entry.about.get("cls") in golden_vector.CLASSES:
        golden_vector.check(entry.about, arrays)
    else:
        assert golden_cases.check(entry.about, arrays), f"nothing here computes {entry.key!r} ({entry.file})"
