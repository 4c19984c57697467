"""Benchmarks run to their end, and the lengths case measures what it says."""

import json

from core.bench.areas import line
from core.bench.lengths import ROWS, SHAPES, beside_padding, some_lengths
from core.bench.runner import Case, as_rows, measure_all
from core.errors import ConfigError


def broken() -> None:
    raise ConfigError("no graph for this unit.")


def test_a_case_that_cannot_run_is_a_row_that_says_why() -> None:
    good = Case("adds", "one", lambda: (lambda: 1 + 1, None), repeats=2)
    bad = Case("fails", "none", broken, limit_us=1)  # type: ignore[arg-type]
    figures = measure_all([bad, good])
    assert [figure.error for figure in figures] == ["no graph for this unit.", None]
    assert "cannot run here: no graph for this unit." in line(figures[0])
    rows = json.loads(json.dumps(as_rows(figures), allow_nan=False))
    assert rows[0]["ours_us"] is None
    assert rows[1]["ours_us"] > 0


def test_the_lengths_are_those_of_the_claim() -> None:
    for time, _, _ in SHAPES:
        lengths = some_lengths(time)
        assert len(lengths) == ROWS
        assert len(set(lengths.tolist())) == 28
        assert lengths.max() == time
        assert abs(lengths.float().mean() / time - (0.65 if time < 128 else 0.59)) < 0.01
    ours, padded = beside_padding("gru", 12, 4)
    ours()
    padded()
