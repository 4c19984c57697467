"""Motions of many movers, and the table of how a model does on them."""

from pathlib import Path

import numpy as np
import pytest

from apps.trajectory.model import load_model
from apps.trajectory.motion_table import lines, row, table, write_into
from apps.trajectory.predict import predict
from apps.trajectory.synth.motions import FLAT, MOTIONS, motion
from core.errors import DataError


@pytest.mark.parametrize("family", list(MOTIONS))
def test_every_family_is_a_path_and_its_record(family: str) -> None:
    made, again = (motion(family, np.random.default_rng([3, 1])) for _ in range(2))
    np.testing.assert_array_equal(made.recorded, again.recorded)
    assert made.truth.shape == made.recorded.shape == (len(made.time_s), 2 if family in FLAT else 3)
    assert np.isfinite(made.recorded).all()
    noise = made.recorded - made.truth
    assert np.abs(noise).max() < 15
    slow = motion(family, np.random.default_rng([3, 1]), step_s=2.0, span_s=240.0, wider=1.2)
    assert slow.step_s == 2.0
    assert len(slow.time_s) == 121


def test_a_fall_is_a_fall_and_a_circle_a_circle() -> None:
    fall = motion("free_fall", np.random.default_rng(0))
    np.testing.assert_allclose(np.diff(fall.truth[-20:, 2], n=2) / 0.01, -9.81, atol=1e-6)
    circle = motion("turn", np.random.default_rng(0))
    steps = np.linalg.norm(np.diff(circle.truth[:, :2], axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


@pytest.mark.parametrize("family", ["straight_exact", "vertical", "turn_1hz", "lane_change", "noisy_100hz"])
def test_the_bundled_weights_do_as_well_as_a_ruler(family: str) -> None:
    (found,) = table(load_model(), tracks=6, seed=11, families=[family])
    assert found.windows > 20
    for mine, best in zip(found.errors["model"], found.best, strict=True):
        assert mine <= max(1.3 * best, 0.03)


def test_the_table_stands_between_its_marks(tmp_path: Path) -> None:
    rows = list(table(load_model(), tracks=1, families=["rest"]))
    told = lines(rows)
    assert told[2].startswith("| rest |")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- motions -->\nof yesterday\n<!-- /motions -->\nafter\n")
    write_into(readme, told)
    text = readme.read_text()
    assert "| rest |" in text
    assert "of yesterday" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    (tmp_path / "empty.md").write_text("nothing")
    with pytest.raises(DataError, match="no lines"):
        write_into(tmp_path / "empty.md", [])
    with pytest.raises(DataError, match="no motion 'swim'"):
        list(table(load_model(), families=["swim"]))


def test_a_row_compares_with_the_truth_and_not_with_the_record() -> None:
    still = motion("rest", np.random.default_rng(5))
    found = row("rest", [still], load_model())
    assert set(found.errors) == {"cv", "ls5", "ls21", "ctrv", "model"}
    assert found.errors["ls21"][0] < found.errors["cv"][0]


@pytest.mark.parametrize("digits", [6, 3, 2])
@pytest.mark.parametrize("way", [(1, 0, 0), (0.6, 0.8, 0.1), (0, 0, 1), (0.3, -0.9, 0.2)])
def test_the_ball_around_an_exact_line_is_small_at_any_speed(
    way: tuple[float, float, float], digits: int
) -> None:
    model, time_s = load_model(), 0.1 * np.arange(41)
    ahead = np.array(way) / np.linalg.norm(way)
    for speed in (1.0, 3.0, 10.0, 30.0, 100.0, 250.0):
        path = time_s[:, None] * speed * ahead + [5, 3, 10]
        answer = predict(path[:21].round(digits), model)
        assert answer.radius is not None
        error = np.linalg.norm(answer.mean - path[21:], axis=1)
        for step in (9, 19):
            assert answer.radius[step] <= 10 * error[step] + 0.1, (speed, step)
