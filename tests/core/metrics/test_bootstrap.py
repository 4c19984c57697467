"""Intervals by drawing groups again."""

import numpy as np
import pytest

from core.metrics.bootstrap import difference_interval, interval, mean_interval, ratio_interval


def test_the_interval_of_a_mean_is_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    found = mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_equal_values_of_a_group_count_once() -> None:
    generator = np.random.default_rng(1)
    per_group = generator.normal(size=100)
    values, groups = np.repeat(per_group, 50), np.repeat(np.arange(100), 50)
    wide, narrow = mean_interval(values, list(groups)), mean_interval(values)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(50), rel=0.15)


def test_a_ratio_weighs_by_its_denominator() -> None:
    found = ratio_interval([1, 9], [10, 10])
    assert found.value == 0.5
    assert (found.low, found.high) == (0.1, 0.9)
    assert ratio_interval([0, 0], [0, 0]).as_dict("cer") == {"cer": None, "cer_low": None, "cer_high": None}


def test_unknown_values_are_left_out_and_one_group_has_no_interval() -> None:
    assert mean_interval([1.0, np.nan, 3.0]).value == 2.0
    assert mean_interval([1.0, 2.0], ["a", "a"]).as_dict("x") == {"x": 1.5, "x_low": None, "x_high": None}
    assert np.isnan(mean_interval([]).value)


def test_any_figure_and_the_fast_way_agree() -> None:
    values = list(np.random.default_rng(2).exponential(size=60))
    groups = [index // 3 for index in range(60)]
    slow = interval(values, lambda items: float(np.mean(items)), groups, draws=2000)
    fast = mean_interval(values, groups)
    assert slow.value == pytest.approx(fast.value)
    assert slow.low == pytest.approx(fast.low, abs=0.03)
    assert slow.high == pytest.approx(fast.high, abs=0.03)


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    base = np.random.default_rng(3).normal(size=200) * 10
    found = difference_interval(base + 0.5, base)
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="a group for each of 2 values, got 1"):
        mean_interval([1, 2], ["a"])
    with pytest.raises(ValueError, match="two rows of equal length"):
        ratio_interval([1, 2], [1])
