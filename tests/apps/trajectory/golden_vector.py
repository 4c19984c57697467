"""Golden files of the published VECTOR networks: outputs, positions, and what the node does."""

from typing import Any

import numpy as np
import torch

from apps.trajectory.features import Normalisation
from apps.trajectory.models.vector import VectorPredictor, from_state

CLASSES = ("VelocityPredictor2", "PositionPredictor3")


def check(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Compare one manifest entry with our network, at the tolerances that the specification asks for."""
    network = from_state(
        {
            name[2:]: torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith("w:")
        }
    )
    args = about["args"]
    horizon = args.get("horizon", 10)
    if "x" in arrays:
        with torch.no_grad():
            close(network(tensor(arrays["x"]), horizon), arrays["y"], 1e-5, "y")
        return
    white = args["normalisation"] == "white"
    scaling = Normalisation(
        "cholesky_T" if white else "max",
        tensor(arrays["stat_mean"]),
        tensor(arrays["stat_L"]),
        float(np.ravel(arrays["stat_max"])[0]),
    )
    kind = "velocity" if about["cls"].startswith("Velocity") else "position"
    # what an error of 1e-5 in the normalised output becomes in metres
    reach = (
        float(np.abs(np.linalg.inv(arrays["stat_L"])).max())
        if white
        else float(np.ravel(arrays["stat_max"])[0])
    )
    metres = 1e-4 if kind == "velocity" else 1e-5 * max(1.0, reach)
    past = tensor(arrays["positions"])
    with torch.no_grad():
        model = VectorPredictor(network, scaling, kind, dt=args["dt"], horizon=horizon)
        x = scaling.apply(model.inputs(past))
        close(x, arrays["net_input"], 1e-9 * max(1.0, float(np.abs(arrays["net_input"]).max())), "net_input")
        y = network(x.float(), horizon)
        close(y, arrays["net_output"], 1e-5, "net_output")
        close(scaling.invert(y), arrays["denormalised"], max(metres, 1e-5 * reach), "denormalised")
        if "pred_positions_with_anchor" in arrays:
            mean = torch.cat([past[:, -1:], model(past).mean], 1)
            close(mean, arrays["pred_positions_with_anchor"], metres, "pred_positions_with_anchor")
        if "node_pred_positions_from_last20" in arrays:
            node = VectorPredictor(network, scaling, kind, dt=args["dt"], horizon=horizon, compat=True)
            mean = torch.cat([past[:, -1:], node(past[:, 1:]).mean], 1)
            close(mean, arrays["node_pred_positions_from_last20"], metres, "node_pred_positions_from_last20")


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def close(ours: torch.Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert tuple(ours.shape) == expected.shape, (
        f"{what}: shape {tuple(ours.shape)}, expected {expected.shape}"
    )
    worst = float(np.abs(ours.double().numpy() - expected.astype(np.float64)).max())
    assert worst <= tolerance, f"{what}: off by {worst:.3g}, allowed {tolerance:.3g}"
