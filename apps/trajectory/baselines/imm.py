"""Interacting multiple models (Blom and Bar-Shalom 1988): filters of unequal noise, mixed by likelihood.

c_j = sum_i M_ij mu_i,  w_ij = M_ij mu_i / c_j
x0_j = sum_i w_ij x_i,  P0_j = sum_i w_ij (P_i + (x_i - x0_j)(x_i - x0_j)^T)
filter j steps from (x0_j, P0_j) with likelihood L_j
mu_j = c_j L_j / sum_k c_k L_k,  x = sum_j mu_j x_j
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apps.trajectory.baselines.kalman import Dynamics, extrapolate, innovation_loglik, model, start
from apps.trajectory.baselines.linear import check

QUIET, LIVELY = 0.5, 8.0
"""Process noise of the two filters, m/s^2 per step."""
STAY = np.array([[0.97, 0.03], [0.05, 0.95]])
"""Chance of a change of mode from one sample to the next."""
MEASUREMENT_M = 0.02
BATCH = 512
"""Windows at a time: their covariances then stay in the cache."""


@dataclass(frozen=True)
class MixedTrace:
    """After each measurement but the first: states (n, T-1, S), mode probabilities (n, T-1, modes)."""

    x: np.ndarray
    mu: np.ndarray


def run(z: np.ndarray, models: Sequence[Dynamics], transition: np.ndarray, mu0: np.ndarray) -> MixedTrace:
    """Filter measurements z (n, T, D) with models of one state size."""
    F, Q, R = (np.stack([getattr(kind, name) for kind in models]) for name in "FQR")
    H, modes = models[0].H, len(models)
    unit = np.eye(H.shape[1])
    x = np.stack([start(z[:, 0], kind) for kind in models], 1)  # (n, modes, S)
    P = np.broadcast_to(np.stack([kind.start for kind in models]), (len(z), modes, *unit.shape))
    mu = np.broadcast_to(np.asarray(mu0, dtype=np.float64), (len(z), modes))
    xs, mus = np.empty((len(z), z.shape[1] - 1, len(unit))), np.empty((len(z), z.shape[1] - 1, modes))
    for t in range(1, z.shape[1]):
        joint = mu[:, :, None] * transition  # (n, from, to)
        c = joint.sum(1)
        w = joint / c[:, None]
        mixed = np.einsum("nij,nis->njs", w, x)
        away = x[:, :, None] - mixed[:, None]  # (n, from, to, S)
        P = np.einsum("nij,niab->njab", w, P) + np.einsum("nij,nija,nijb->njab", w, away, away)
        x = np.einsum("jab,njb->nja", F, mixed)
        P = F @ P @ F.transpose(0, 2, 1) + Q
        PH = P @ H.T
        S = H @ PH + R
        K = np.linalg.solve(S, PH.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
        y = z[:, t, None] - x @ H.T
        x = x + np.einsum("njsd,njd->njs", K, y)
        rest = unit - K @ H
        P = rest @ P @ rest.transpose(0, 1, 3, 2) + K @ R @ K.transpose(0, 1, 3, 2)
        weight = np.log(c) + innovation_loglik(y, S)  # in logs: an outlier underflows both likelihoods
        mu = np.exp(weight - weight.max(1, keepdims=True))
        mu = mu / mu.sum(1, keepdims=True)
        xs[:, t - 1], mus[:, t - 1] = np.einsum("nj,njs->ns", mu, x), mu
    return MixedTrace(xs, mus)


def imm_ca(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """Two filters of constant acceleration, a quiet and a lively one."""
    past = check(past, horizon)
    n, history, dims = past.shape
    models = [model(2, dt, q, MEASUREMENT_M, dims) for q in (QUIET, LIVELY)]
    found = np.empty((n, horizon, dims))
    for begin in range(0, n, BATCH):
        part = past[begin : begin + BATCH]
        origin = part[:, -1:]
        if history > 1:
            state = run(part - origin, models, STAY, np.array([0.5, 0.5])).x[:, -1]
        else:
            state = start(part[:, 0] - origin[:, 0], models[0])
        found[begin : begin + BATCH] = origin + extrapolate(state, models[0], horizon)
    return found
