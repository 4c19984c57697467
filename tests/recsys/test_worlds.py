"""The simulator and the comparison: same bytes for a seed, probabilities that add up, paired luck."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from recsys.compare import Player, Town, compare, lines, play
from recsys.data import check_slates, read_slates
from recsys.simulator import CHOICES, World, simulate, simulate_log, write_log
from tests.recsys.market import WORLD, log


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("policy", ["group", "random"])
def test_a_generated_log_is_a_valid_one_with_its_truth(choice: str, policy: str) -> None:
    world = World(items=240, groups=5, dims=4, slots=9, length=6.0, choice=choice, policy=policy, churn=0.3)
    made = simulate_log(world, 200, 10, seed=4)
    check_slates(made.slates)
    used = made.slates.lengths > 0
    assert made.chance[used].sum(-1) == pytest.approx(1, abs=1e-5)
    taken = np.take_along_axis(made.chance, made.slates.click_idx[..., None].astype(int), 2)[..., 0]
    # clicks follow the probabilities: the mean of p(taken) is the mean of sum p^2
    assert taken[used].mean() == pytest.approx((made.chance[used] ** 2).sum(-1).mean(), abs=0.02)
    shown = np.isfinite(made.propensity)
    assert (shown.any(-1) == (made.slates.kind == 2)).all()
    assert ((made.propensity[shown] > 0) & (made.propensity[shown] <= 1)).all()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_log(simulate_log(WORLD, 20, 8, seed=3), tmp_path / name)
    write_log(simulate_log(WORLD, 20, 8, seed=4), tmp_path / "c")
    data = [(tmp_path / name / "data.npz").read_bytes() for name in "abc"]
    assert data[0] == data[1] != data[2]
    again = read_slates(tmp_path / "a")
    assert (again.slate == simulate_log(WORLD, 20, 8, seed=3).slates.slate).all()
    assert (again.catalogue.group == log().slates.catalogue.group).all()  # one market for all users


def test_late_items_appear_in_the_second_half_only() -> None:
    made = simulate_log(World(items=600, groups=4, dims=4, slots=9, length=6.0, churn=0.2), 300, 10)
    late = np.concatenate([np.zeros(3, bool), made.market.late])
    assert not late[made.slates.slate[:, :5]].any()
    assert late[made.slates.slate[:, 5:]].any()


def test_wrong_worlds_are_refused() -> None:
    for settings in ({"choice": "dice"}, {"items": 10}, {"jump": 2.0}, {"policy": "best"}):
        with pytest.raises(ConfigError):
            simulate(**settings)  # pyright: ignore[reportArgumentType]


SMALL = Town(60, 4, 8, 3, rounds=12)


def test_the_best_slate_has_no_regret_and_luck_is_paired() -> None:
    games = {name: play(SMALL, Player(name, 0.3), 5) for name in ("greedy", "ts", "inslate", "eps", "random")}
    assert all((game.regret > -1e-9).all() for game in games.values())
    again = play(SMALL, Player("inslate", 0.3), 5)
    assert (again.regret == games["inslate"].regret).all()
    assert (play(SMALL, Player("inslate", 0.0), 5).regret == games["greedy"].regret).all()
    assert games["random"].regret.sum() > games["greedy"].regret.sum()


def test_a_third_of_the_spread_beats_greedy_where_items_are_scarce() -> None:
    answer = compare(("sparse",), ("inslate",), (0.3,), seeds=6, rounds=100, positions=("known",))
    rows = next(iter(answer["worlds"].values()))["policies"]
    assert rows["inslate 0.3"]["regret_difference_high"] < 0
    assert rows["inslate 0.3"]["coverage"] > rows["greedy"]["coverage"]
    assert "inslate 0.3" in "\n".join(lines(answer))


@pytest.mark.parametrize("words", [{"worlds": ("moon",)}, {"policies": ("best",)}, {"seeds": 1}])
def test_wrong_games_are_refused(words: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        compare(**words)  # pyright: ignore[reportArgumentType]
