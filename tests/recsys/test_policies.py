"""Slates out of scores, and recommendations for people known by their history alone."""

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from recsys.policies.slates import (
    epsilon_greedy,
    in_slate,
    in_slate_strict,
    plackett_luce,
    slate_chances,
    top,
    uniform,
)
from recsys.predict import POLICIES, Filter, recommend, similar
from tests.recsys.market import log, model

CLICKS = [5, 17, 90]


def test_ties_go_to_the_lower_number() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 2.0, 3.0]])
    assert top(scores, 2).tolist() == [[1, 2]]
    wide = np.zeros((1, 1000))
    assert top(wide, 3).tolist() == [[0, 1, 2]]


def test_in_slate_reads_rank_by_rank_and_strict_keeps_slots() -> None:
    a, b, c = [9.0, 8, 1, 0], [9.0, 1, 8, 0], [0.0, 1, 2, 9]
    draws = np.array([a, b, c])[:, None]
    assert in_slate(draws, 3).tolist() == [[0, 3, 1]]  # best of the draws: 0, 0, 3; then second best
    assert in_slate_strict(draws, 3).tolist() == [[0, 2, 3]]


def test_propensities_are_the_frequencies() -> None:
    scores = np.array([[1.0, 0.0, -1.0, -np.inf, 0.5]])
    random = np.random.default_rng(0)
    for way in (
        lambda: epsilon_greedy(scores, 2, 0.4, random),
        lambda: uniform(scores, 2, random),
        lambda: plackett_luce(scores, 2, 1.0, random),
    ):
        seen: dict[tuple[int, ...], int] = {}
        chance: dict[tuple[int, ...], float] = {}
        for _ in range(4000):
            slate, p = way()
            key = tuple(slate[0].tolist())
            seen[key], chance[key] = seen.get(key, 0) + 1, float(p.prod())
        assert 3 not in {item for key in seen for item in key}
        assert all(abs(count / 4000 - chance[key]) < 0.03 for key, count in seen.items())


def test_plackett_luce_of_a_slate_is_the_product_of_softmaxes() -> None:
    logits = np.array([[0.0, 1.0, 2.0]])
    weight = np.exp(logits[0])
    found = slate_chances(logits, np.array([[2, 0]]))
    assert found[0] == pytest.approx([weight[2] / weight.sum(), weight[0] / (weight[0] + weight[1])])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_reload_shows_the_same_and_the_next_period_may_differ(policy: str) -> None:
    def items(period: int, user: str = "u") -> list[object]:
        return list(recommend(model(), CLICKS, 6, policy, 3, user=user, period=period, temperature=1.0).items)

    assert items(0) == items(0)
    assert len(set(map(str, items(0)))) == 6
    steady = policy in ("greedy", "popularity", "frozen")
    if policy != "inslate_h0":  # where the user's state alone is drawn, the slate may stay
        assert (items(0) == items(1)) is steady
    if policy == "frozen":
        assert items(0, "u") == items(0, "v")


@pytest.mark.parametrize("policy", ["ts", "inslate", "inslate_strict", "inslate_h0", "plackett_luce", "eps"])
def test_temperature_zero_is_greedy(policy: str) -> None:
    greedy = recommend(model(), CLICKS, 5, "greedy").items
    answer = recommend(model(), CLICKS, 5, policy, temperature=0.0)
    assert answer.items == greedy
    assert answer.propensities == [1.0] * 5


def test_filters_are_kept_and_a_slate_is_never_short() -> None:
    keep = Filter(candidates=frozenset(range(10, 30)), deny=frozenset({11, 12}), seen="drop", cap=2)
    answer = recommend(model(), CLICKS, 6, "inslate", keep=keep, explain=True)
    numbers = {int(item) for item in answer.items}
    assert numbers <= set(range(10, 30)) - {11, 12, 17}
    assert max(np.bincount(answer.groups)) <= 2
    assert [row["item"] for row in answer.why] == answer.items
    assert all(np.isfinite(row["spread"]) and row["draw"] is not None for row in answer.why)
    with pytest.raises(DataError, match="may be shown"):
        recommend(model(), CLICKS, 19, keep=keep)


def test_estimated_propensities_store_how_many_draws_and_never_zero() -> None:
    answer = recommend(model(), CLICKS, 4, "ts", temperature=2.0, repeats=12)
    assert answer.draws == 12
    assert all(chance is None or 1 / 12 <= chance <= 1 for chance in answer.propensities)


def test_unknown_users_and_ids_are_served_and_counted() -> None:
    nobody = recommend(model(), [], 5)
    assert len(nobody.items) == 5
    assert recommend(model(), [5, 10**9, "boat"], 5).unknown == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": "best"}, ConfigError),
        ({"temperature": -1.0}, ConfigError),
        ({"policy": "eps", "temperature": 1.5}, ConfigError),
        ({"k": 0}, ConfigError),
        ({"k": 10_000}, DataError),
    ],
)
def test_wrong_words_are_refused(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        recommend(model(), CLICKS, **options)  # pyright: ignore[reportArgumentType]


def test_similar_items_are_near_and_not_the_item_itself() -> None:
    found = similar(model(), 20, 5)
    distances = [row["distance"] for row in found]
    assert distances == sorted(distances)
    assert 20 not in [row["item"] for row in found]
    with pytest.raises(DataError, match="not in the catalogue"):
        similar(model(), "boat")


def test_update_is_the_state_of_the_longer_history() -> None:
    import torch

    from core.state import tensors

    one = model().update(model().state([5, 17]), 90)
    whole = model().state([5, 17, 90])
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(whole), strict=True))
    slate = {"slate": [4, 9], "click": 9, "kind": "rec"}
    assert model().log_prob([slate])[0] < 0
    assert len(log().slates) == 60
