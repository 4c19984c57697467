"""Golden files of filters, metrics and resampling; everything that may vary is taken from the entry."""

import re
from typing import Any

import numpy as np

from apps.trajectory import metrics
from apps.trajectory.baselines import imm, kalman
from apps.trajectory.data import Track, resample

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-9
NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"


def check(about: dict[str, Any], arrays: Arrays) -> bool:
    """Compare one manifest entry; False where this module computes nothing of its kind."""
    source = about.get("reference", "")
    if "IMMEstimator" in source:
        check_imm(about["args"], arrays)
    elif "KalmanFilter" in source:
        check_kalman(about["args"], arrays)
    elif "pred_k" in arrays:
        check_metrics(arrays)
    elif "segment0" in arrays:
        check_resample(about["args"], arrays)
    else:
        return False
    return True


def close(ours: Any, expected: np.ndarray, what: str) -> None:
    """Relative to the size of the numbers, as a covariance starts near 100."""
    ours = np.asarray(ours, dtype=np.float64)
    expected = expected.reshape(ours.shape) if expected.size == ours.size == 1 else expected
    assert ours.shape == expected.shape, f"{what}: shape {ours.shape}, expected {expected.shape}"
    worst = float(np.abs(ours - expected).max(initial=0))
    assert worst <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0))), (
        f"{what}: off by {worst:.3g}"
    )


def unknown_variances(args: dict[str, Any]) -> tuple[float, float]:
    """`P0=diag(r^2,100,100)` -> (100, 100)."""
    found = re.search(rf"diag\(r\^2,\s*({NUMBER})(?:,\s*({NUMBER}))?\)", args.get("init", ""))
    if not found:
        return kalman.START_VARIANCES
    return float(found[1]), float(found[2] or found[1])


def check_kalman(args: dict[str, Any], arrays: Arrays) -> None:
    z = arrays["z"]
    kind = kalman.model(
        args["order"],
        args["dt"],
        args["sigma_process"],
        args["sigma_meas"],
        z.shape[1],
        unknown_variances(args),
    )
    for name in "FQHR":
        close(getattr(kind, name), arrays[name], name)
    trace = kalman.run(z, kind)
    for name in ("x", "P", "loglik"):
        close(getattr(trace, name), arrays[name], name)


def check_imm(args: dict[str, Any], arrays: Arrays) -> None:
    z = arrays["z"]
    words = args["models"]
    order = 2 if "CA" in words else 1
    sigmas = [float(value) for value in re.findall(NUMBER, words.split("sigma", 1)[1])]
    models = [
        kalman.model(order, args["dt"], sigma, args["sigma_meas"], z.shape[1], unknown_variances(args))
        for sigma in sigmas
    ]
    trace = imm.run(z[None], models, arrays["M"], np.array(args["mu0"]))
    close(trace.x[0], arrays["x"], "x")
    close(trace.mu[0], arrays["mu"], "mu")


def check_resample(args: dict[str, Any], arrays: Arrays) -> None:
    track = Track("golden", "golden", arrays["t"], None, arrays["p"])
    segments = resample(track, args["dt"], args["max_gap"])
    names = sorted((name for name in arrays if name.startswith("segment")), key=lambda name: int(name[7:]))
    assert len(segments) == len(names)
    for name, segment in zip(names, segments, strict=True):
        t = segment.t0 + segment.dt * np.arange(len(segment))
        close(np.concatenate([t[:, None], segment.positions], 1), arrays[name], name)


def check_metrics(arrays: Arrays) -> None:
    truth, modes = arrays["gt"], arrays["pred_k"]
    mean, sd = arrays["gauss_mu"], arrays["gauss_sd"]
    every = truth[:, None]
    inputs = {"gt", "pred_k", "gauss_mu", "gauss_sd", "conformal_scores"}
    for name, expected in arrays.items():
        if name in inputs or re.fullmatch(r"q\d+", name):
            continue
        if name == "min_ade":
            ours: Any = metrics.min_ade(modes, truth)
        elif name == "min_fde":
            ours = metrics.min_fde(modes, truth)
        elif name == "fde_of_min_ade_mode":
            ours = metrics.fde_of_min_ade(modes, truth)
        elif found := re.fullmatch(r"(ade|fde)(?:_at_(\d+))?", name):
            ours = getattr(metrics, found[1])(modes, every, int(found[2]) if found[2] else None)
        elif found := re.fullmatch(r"miss_rate_(\d+)p(\d+)", name):
            ours = metrics.miss_rate(metrics.min_fde(modes, truth), float(f"{found[1]}.{found[2]}"))
        elif name == "mse_elementwise":
            ours = metrics.mse(modes[:, 0], truth)
        elif name == "mse_node":
            ours = metrics.mse_of_distance(modes[:, 0], truth)
        elif name == "crps_mean":
            ours = metrics.gaussian_crps(mean, sd, truth).mean()
        elif name == "nll_mean":
            ours = metrics.gaussian_nll(mean, sd, truth).mean()
        elif found := re.fullmatch(r"pinball(\d+)_mean", name):
            ours = metrics.pinball(arrays[f"q{found[1]}"], truth, int(found[1]) / 100).mean()
        elif found := re.fullmatch(r"cover(\d+)", name):
            low, high = (100 - int(found[1])) // 2, (100 + int(found[1])) // 2
            ours = metrics.coverage(arrays[f"q{low}"], arrays[f"q{high}"], truth)
        elif found := re.fullmatch(r"conformal_q(\d+)", name):
            ours = metrics.conformal_quantile(arrays["conformal_scores"], 1 - int(found[1]) / 100)
        else:
            raise AssertionError(f"nothing here computes {name}")
        close(ours, expected, name)
