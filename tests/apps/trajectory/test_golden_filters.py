"""Filters beyond the golden traces: batches, likelihood, and mixing that follows a manoeuvre."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from apps.trajectory.baselines import imm, kalman


@pytest.mark.parametrize("order", [1, 2])
def test_a_batch_is_filtered_row_by_row(order: int) -> None:
    z = np.random.default_rng(0).normal(size=(4, 15, 2)).cumsum(1)
    kind = kalman.model(order, 0.1, 3.0, 0.05, 2)
    whole = kalman.run(z, kind)
    alone = kalman.run(z[1], kind)
    np.testing.assert_allclose(whole.x[1], alone.x, atol=1e-12)
    np.testing.assert_allclose(whole.loglik[1], alone.loglik, atol=1e-10)


def test_likelihood_of_all_measurements_is_that_of_their_joint_gaussian() -> None:
    kind = kalman.model(1, 0.5, 0.7, 0.3, 1)
    z = np.random.default_rng(1).normal(size=(4, 1))
    # later measurements are linear in the state at the first one and in the noise
    F, Q, H, R = kind.F, kind.Q, kind.H, kind.R
    mean, cov, powers = [], np.zeros((3, 3)), [np.linalg.matrix_power(F, k) for k in range(4)]
    spread = [kind.start]
    for _ in range(3):
        spread.append(F @ spread[-1] @ F.T + Q)
    for i in range(3):
        mean.append(float((H @ powers[i + 1] @ (z[0] @ H)).item()))
        for j in range(i, 3):
            cov[i, j] = cov[j, i] = (H @ powers[j - i] @ spread[i + 1] @ H.T).item()
    joint = multivariate_normal(mean, cov + R.item() * np.eye(3)).logpdf(z[1:, 0])
    assert kalman.run(z, kind).loglik.sum() == pytest.approx(joint, abs=1e-10)


def test_one_model_alone_is_the_plain_filter() -> None:
    z = np.random.default_rng(2).normal(size=(3, 12, 3)).cumsum(1)
    kind = kalman.model(2, 0.1, 2.0, 0.02, 3)
    mixed = imm.run(z, [kind], np.ones((1, 1)), np.ones(1))
    np.testing.assert_allclose(mixed.x, kalman.run(z, kind).x, rtol=1e-9, atol=1e-9)


def test_the_lively_model_takes_over_in_a_manoeuvre() -> None:
    t = 0.1 * np.arange(60)
    z = np.stack([3 * t, np.where(t > 3, 4 * (t - 3) ** 2, 0.0), 0 * t], 1)
    z += 0.02 * np.random.default_rng(3).normal(size=z.shape)
    models = [kalman.model(2, 0.1, q, 0.02, 3) for q in (0.5, 8.0)]
    mu = imm.run(z[None], models, imm.STAY, np.array([0.5, 0.5])).mu[0, :, 1]
    assert mu[20:29].mean() < 0.5
    assert mu[30:34].max() > 0.9


def test_an_outlier_leaves_probabilities_finite() -> None:
    z = np.zeros((1, 10, 3))
    z[0, 5] = 1e6
    models = [kalman.model(2, 0.1, q, 0.02, 3) for q in (0.5, 8.0)]
    trace = imm.run(z, models, imm.STAY, np.array([0.5, 0.5]))
    assert np.isfinite(trace.x).all()
    np.testing.assert_allclose(trace.mu.sum(-1), 1)
