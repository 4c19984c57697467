"""Exact search and exact draws of large tables."""

import numpy as np
import pytest

from core.errors import DataError
from recsys.retrieval.exact import ItemIndex

RANDOM = np.random.default_rng(0)
MEANS = RANDOM.standard_normal((20_000, 8)).astype(np.float32)
SPREAD = RANDOM.uniform(0.05, 0.4, MEANS.shape).astype(np.float32)
USERS = RANDOM.standard_normal((3, 8)).astype(np.float32)
INDEX = ItemIndex(MEANS, SPREAD)


def test_the_search_is_exact_with_and_without_a_filter() -> None:
    scores = USERS @ MEANS.T
    items, values = INDEX.top(USERS, 25)
    assert (items == np.argsort(-scores, 1, kind="stable")[:, :25]).all()
    assert values == pytest.approx(np.take_along_axis(scores, items, 1), abs=1e-5)
    allowed = RANDOM.random(len(MEANS)) < 0.02
    scores[:, ~allowed] = -np.inf
    assert (INDEX.top(USERS, 25, allowed)[0] == np.argsort(-scores, 1, kind="stable")[:, :25]).all()


def test_ties_go_to_the_lower_number() -> None:
    same = np.ones((9000, 4), np.float32)
    assert ItemIndex(same).top(np.ones(4), 5)[0].tolist() == [[0, 1, 2, 3, 4]]


def test_thinned_draws_have_the_law_of_full_draws_and_draw_little() -> None:
    z, repeats = USERS[:1], 500
    mean, deviation = (z @ MEANS.T)[0], np.sqrt(z**2 @ (SPREAD**2).T)[0]
    ours, theirs, drawn = np.zeros(len(MEANS)), np.zeros(len(MEANS)), 0
    best: list[list[float]] = [[], []]
    for seed in range(repeats):
        items, values, count = INDEX.thompson(z, 10, seed)
        ours[items[0]] += 1
        drawn += count
        full = mean + deviation * RANDOM.standard_normal(len(MEANS))
        theirs[np.argpartition(-full, 10)[:10]] += 1
        best[0].append(float(values[0, 0]))
        best[1].append(float(full.max()))
    often = np.argsort(-(ours + theirs))[:40]
    share = (ours + theirs)[often] / (2 * repeats)
    gap = (ours - theirs)[often] / np.sqrt(2 * repeats * share * (1 - share) + 1e-9)
    assert 0.6 < gap.std() < 1.5
    assert abs(np.mean(best[0]) - np.mean(best[1])) < 4 * np.std(best[1]) / repeats**0.5
    assert drawn / repeats < 17_000  # the first blocks are drawn in full, of the rest next to nothing


def test_a_draw_is_a_function_of_its_seed_and_zero_is_greedy() -> None:
    one, two = INDEX.thompson(USERS, 5, 7), INDEX.thompson(USERS, 5, 7)
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()
    assert (INDEX.thompson(USERS, 5, 8)[1] != one[1]).any()
    assert (INDEX.thompson(USERS, 5, 7, temperature=0.0)[0] == INDEX.top(USERS, 5)[0]).all()


def test_impossible_requests_are_refused() -> None:
    few = np.zeros(len(MEANS), bool)
    few[:3] = True
    for call in (
        lambda: INDEX.top(USERS, 4, few),
        lambda: INDEX.top(USERS, 4, few[:10]),
        lambda: INDEX.top(USERS, 30_000),
        lambda: ItemIndex(MEANS).thompson(USERS, 4, 0),
        lambda: ItemIndex(MEANS[:0]),
    ):
        with pytest.raises(DataError):
            call()
