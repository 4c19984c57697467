"""Baselines: what each method is exact on, one interface, and scores on a known path."""

import numpy as np
import pytest

from apps.trajectory.baselines import BASELINES
from apps.trajectory.baselines.linear import linear

DT = 0.1
K = np.arange(1, 21)


def path(kind: str, t: np.ndarray) -> np.ndarray:
    """Positions (len(t), 3)."""
    if kind == "still":
        return np.tile([3.0, -2.0, 5.0], (len(t), 1))
    if kind == "line":
        return np.stack([2 * t, -1 * t, 0.5 * t], 1) + 7
    if kind == "parabola":
        return np.stack([2 * t + t**2, -3 * t**2, 0.5 * t], 1)
    return np.stack([4 * np.cos(0.8 * t), 4 * np.sin(0.8 * t), 0.3 * t], 1)


EXACT = {
    "still": list(BASELINES),
    "line": [
        "constant_velocity",
        "constant_velocity_ls",
        "constant_acceleration",
        "ctrv",
        "ctra",
        "polynomial",
    ],
    "parabola": ["constant_acceleration", "polynomial"],
    "circle": ["ctrv", "ctra"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in EXACT.items() for name in names])
def test_a_method_is_exact_on_the_motion_it_assumes(kind: str, name: str) -> None:
    t = DT * np.arange(41)
    whole = path(kind, t)
    found = BASELINES[name](whole[None, :21], DT, 20)
    np.testing.assert_allclose(found[0], whole[21:], atol=1e-8)


@pytest.mark.parametrize("name", ["kalman_cv", "kalman_ca", "imm"])
def test_filters_settle_on_a_line(name: str) -> None:
    whole = path("line", DT * np.arange(61))
    np.testing.assert_allclose(BASELINES[name](whole[None, :41], DT, 20)[0], whole[41:], atol=0.02)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dims", [2, 3, 6])
@pytest.mark.parametrize("history", [1, 2, 3, 21])
def test_one_interface_for_any_size(name: str, dims: int, history: int) -> None:
    past = np.random.default_rng(0).normal(size=(4, history, dims)).cumsum(1)
    found = BASELINES[name](past, DT, 7)
    assert found.shape == (4, 7, dims)
    assert np.isfinite(found).all()
    alone = BASELINES[name](past[2:3], DT, 7)
    np.testing.assert_allclose(found[2:3], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_moving_the_origin_moves_the_prediction(name: str) -> None:
    past = np.random.default_rng(1).normal(size=(5, 21, 3)).cumsum(1)
    far = np.array([2e5, -3e5, 100.0])
    np.testing.assert_allclose(
        BASELINES[name](past + far, DT, 20), BASELINES[name](past, DT, 20) + far, atol=1e-6
    )


@pytest.mark.parametrize("name", BASELINES)
def test_turning_the_axes_turns_the_prediction(name: str) -> None:
    past = np.random.default_rng(2).normal(size=(5, 21, 3)).cumsum(1)
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        BASELINES[name](past @ turn.T, DT, 20), BASELINES[name](past, DT, 20) @ turn.T, atol=1e-7
    )


def test_the_matrix_of_a_linear_method_does_what_the_method_does() -> None:
    def odd(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
        slope = (past[:, -1:] - past[:, :1]) / (past.shape[1] - 1)
        return past[:, -1:] + np.arange(1, horizon + 1)[:, None] * slope

    past = np.random.default_rng(3).normal(size=(6, 9, 2))
    np.testing.assert_allclose(linear(odd)(past, DT, 5), odd(past, DT, 5), atol=1e-12)


def test_a_past_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"past must be \(n, history, D\), got \(21, 3\)"):
        BASELINES["hold"](np.zeros((21, 3)), DT, 5)
