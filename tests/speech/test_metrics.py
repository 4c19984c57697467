"""Scores against values that other libraries give, and what cannot be scored."""

import math

import numpy as np
import pytest

from core.errors import DataError
from speech import metrics

X = (0.1 * np.random.RandomState(0).randn(32000)).astype(np.float32)
Y = X + (0.05 * np.random.RandomState(1).randn(32000)).astype(np.float32)


def test_the_probe_scores_as_torchmetrics_pesq_and_pystoi_have_it() -> None:
    assert metrics.si_sdr(Y, X) == pytest.approx(5.9723, abs=1e-3)
    assert metrics.sdr(Y, X) == pytest.approx(6.0615, abs=1e-3)
    assert metrics.pesq_wb(Y, X, 16000) == pytest.approx(3.5521, abs=1e-3)
    assert metrics.stoi(Y, X, 16000) == pytest.approx(0.77752, abs=1e-4)


def test_scale_and_mean_do_not_matter() -> None:
    assert metrics.si_sdr(3 * Y + 0.2, X) == pytest.approx(metrics.si_sdr(Y, X), abs=1e-6)
    assert metrics.si_sdr(X, X) == 150.0


def test_silence_and_short_clips_are_not_scored() -> None:
    zero = np.zeros(32000)
    assert math.isnan(metrics.si_sdr(Y, zero))
    assert math.isnan(metrics.pesq_wb(zero, X, 16000))
    assert math.isnan(metrics.pesq_wb(Y, zero, 16000))
    assert math.isnan(metrics.stoi(Y[:1600], X[:1600], 16000))
    rows = [metrics.every(Y, X, 16000), metrics.every(zero, X, 16000)]
    assert metrics.mean(rows)["pesq_wb_unscored"] == 1
    assert metrics.mean(rows)["pesq_wb"] == pytest.approx(3.5521, abs=1e-3)


def test_lengths_that_differ_are_named() -> None:
    with pytest.raises(DataError, match="got"):
        metrics.si_sdr(X[:100], X)


def test_the_best_order_is_found_for_any_number() -> None:
    rng = np.random.default_rng(0)
    sources = [rng.standard_normal(4000) for _ in range(5)]
    estimates = [sources[k] + 0.1 * rng.standard_normal(4000) for k in (3, 0, 4, 1, 2)]
    assert metrics.best_match(estimates, sources) == [1, 3, 4, 0, 2]
    assert metrics.best_match(estimates[:2], sources) == [1, -1, -1, 0, -1]
