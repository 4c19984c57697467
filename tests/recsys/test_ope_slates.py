"""Slates off policy: the truth lies in the interval, click models fail where they should, doubts are said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from recsys.offline import SlateLog, slate_estimates
from recsys.ope_actions import PolicyLog, estimate, read_log
from recsys.ope_slates import estimate_slates, read_logged

ITEMS, SLOTS = 6, 3
WORTH = np.linspace(0.15, 0.5, ITEMS)


def logged(seed: int, count: int = 1500, sharp: float = 0.8) -> pd.DataFrame:
    """Plackett-Luce slates in a cascade world: a click ends it."""
    random = np.random.default_rng(seed)
    weight = np.exp(sharp * np.linspace(-1, 1, ITEMS))
    order = np.argsort(-(np.log(weight) + random.gumbel(size=(count, ITEMS))), 1)[:, :SLOTS]
    chosen = weight[order]
    chance = chosen / (weight.sum() - np.cumsum(chosen, 1) + chosen)
    likes = random.random((count, SLOTS)) < WORTH[order]
    click = likes & (np.cumsum(likes, 1) == 1)
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(count) // 3, SLOTS),
            "time": np.repeat(np.arange(count), SLOTS),
            "slot": np.tile(np.arange(1, SLOTS + 1), count),
            "item": order.ravel(),
            "click": click.ravel().astype(int),
            "propensity": chance.ravel(),
        }
    )


def truth() -> float:
    """Clicks a slate of uniform slates, worked out over all of them."""
    import itertools

    values = [1 - np.prod(1 - WORTH[list(slate)]) for slate in itertools.permutations(range(ITEMS), SLOTS)]
    return float(np.mean(values))


@pytest.mark.parametrize(
    "seeds", [20, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_the_truth_lies_in_the_interval_of_slates_nine_times_in_ten(seeds: int, tmp_path: Path) -> None:
    inside = dict.fromkeys(("rips", "snrips", "sips", "snsips", "cascade_dr"), 0)
    for seed in range(seeds):
        path = tmp_path / f"{seed}.parquet"
        logged(seed, 600).to_parquet(path)
        answer = estimate_slates(read_logged(path))
        for name in inside:
            row = answer["estimates"][name]
            inside[name] += row["value_low"] <= truth() <= row["value_high"]
    assert min(inside.values()) >= 0.9 * seeds


def test_the_truth_lies_in_the_interval_of_actions_nine_times_in_ten() -> None:
    weight = np.exp(np.linspace(-1, 1, ITEMS))
    chance = weight / weight.sum()
    inside = dict.fromkeys(("ips", "snips", "dr", "sndr"), 0)
    for seed in range(100):
        random = np.random.default_rng(seed)
        item = random.choice(ITEMS, 1000, p=chance)
        click = (random.random(1000) < WORTH[item]).astype(float)
        names = tuple(map(str, range(ITEMS)))
        log = PolicyLog(item, 0 * item, click, chance[item], np.arange(1000) // 2, names, 1, None, "made")
        answer = estimate(log, "random")
        for name in inside:
            row = answer["estimates"][name]
            inside[name] += row["value_low"] <= WORTH.mean() <= row["value_high"]
    assert min(inside.values()) >= 90


def test_the_interval_of_a_ratio_knows_that_its_divisor_is_drawn(tmp_path: Path) -> None:
    """Where every slot is clicked a self-normalised estimate cannot be wrong, and its interval says so."""
    frame = logged(0, 60)
    frame["click"] = 1
    frame.to_parquet(tmp_path / "a.parquet")
    row = estimate_slates(read_logged(tmp_path / "a.parquet"))["estimates"]["snrips"]
    assert row["value"] == pytest.approx(SLOTS)
    assert row["value_high"] - row["value_low"] < 1e-9


def test_estimates_are_those_of_the_definitions(tmp_path: Path) -> None:
    frame = logged(0, 50)
    frame["marginal"], frame["target_marginal"] = 0.2, 1 / ITEMS
    frame["other"] = 1 / (ITEMS - (frame["slot"] - 1))
    frame.to_parquet(tmp_path / "a.parquet")
    log = read_logged(tmp_path / "a.parquet", "column:other")
    answer = estimate_slates(log)["estimates"]
    prefix, target = log.propensity.cumprod(1), log.target.cumprod(1)
    wide = np.ones_like(prefix)
    assert log.marginal is not None
    assert log.target_marginal is not None
    expected = slate_estimates(
        SlateLog(log.click, prefix[:, -1:] * wide, prefix, log.marginal, target[:, -1:] * wide, target,
                 log.target_marginal)
    )  # fmt: skip
    for name, value in expected.items():
        assert answer[name]["value"] == pytest.approx(value, rel=1e-9)


def test_doubts_are_said(tmp_path: Path) -> None:
    frame = logged(1, 400, sharp=6.0)
    frame.to_parquet(tmp_path / "sharp.parquet")
    answer = estimate_slates(read_logged(tmp_path / "sharp.parquet"))
    assert not answer["trust"]
    assert answer["verdict"] == "do not trust"
    assert answer["trusted_slots"] < SLOTS
    frame = logged(1, 400)
    frame.loc[:5, "propensity"] = np.nan
    frame.to_parquet(tmp_path / "gaps.parquet")
    assert read_logged(tmp_path / "gaps.parquet").unknown == 2
    frame.loc[9, "propensity"] = 0.0
    frame.to_parquet(tmp_path / "zero.parquet")
    with pytest.raises(DataError, match="slate 3, slot 1"):
        read_logged(tmp_path / "zero.parquet")
    with pytest.raises(ConfigError, match="random or column"):
        read_logged(tmp_path / "gaps.parquet", "greedy")
    frame.drop(columns="slot").to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(DataError, match="no column 'slot'"):
        read_logged(tmp_path / "bare.parquet")


def test_a_log_need_not_show_every_item_of_a_policy(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"item_id": random.choice([0, 1, 2, 4], 200), "position": 1, "click": 0})
    frame["propensity_score"], frame["click"] = 0.2, (frame["item_id"] == 4).astype(int)
    frame.to_csv(tmp_path / "log.csv", sep=";", index=False)
    table = np.array([[0.0], [0.0], [0.0], [0.5], [0.5]])
    np.savez(tmp_path / "p.npz", mine=table, other=np.full((9, 1), 1 / 9))
    log = read_log(tmp_path / "log.csv")
    assert log.names == ("0", "1", "2", "4")
    answer = estimate(log, f"{tmp_path / 'p.npz'}:mine")
    share = (frame["item_id"] == 4).mean()
    assert answer["estimates"]["ips"]["value"] == pytest.approx(0.5 / 0.2 * share)
    with pytest.raises(DataError, match=r"shape \(9, 1\)"):
        estimate(log, f"{tmp_path / 'p.npz'}:other")
