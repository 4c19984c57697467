"""VECTOR, the published predictor (Zahana et al., arXiv 2410.23305; Drones 2025, 9(1), 8).

    h = GRU_1(x_1..x_T)           the final state of all L layers
    y = W GRU_2(0, .., 0; h) + b  K steps of zeros: the decoder runs on its own, no output is fed back

x are normalised velocities (or positions), y the same kind of value for the next K steps. The published
decoder always makes K = 10 steps; here K is an argument, and beyond 10 steps it extrapolates.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import core
from apps.trajectory.features import Normalisation, integrate, velocities
from apps.trajectory.models.forecast import Forecast
from core.door import arrays
from core.errors import WeightsError
from core.weights import load_torch, network_for

HISTORY = 20
"""Samples that the published weights were trained to read."""
HORIZON = 10
"""Steps that they were trained to make."""
Kind = Literal["velocity", "position"]
LARGEST = 256 << 20
"""Bytes of a published checkpoint; they have less than one million."""
STATS = ("max_velocity", "max_length", "input_mean", "L_matrix")
"""Arrays that a statistics file may have."""
STATISTICS = 16 << 20
"""Bytes of a statistics file; they have a few hundred."""


class Vector(nn.Module):
    """Normalised x (B, T, D) -> normalised y (B, K, D)."""

    def __init__(self, dims: int, hidden: int, layers: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.gru1 = core.stack("gru", dims, hidden, layers=layers, dropout=dropout, residual=False)
        self.gru2 = core.stack("gru", hidden, hidden, layers=layers, residual=False)
        self.fc = nn.Linear(hidden, dims)

    def forward(self, x: Tensor, horizon: int = HORIZON) -> Tensor:
        _, state = self.gru1(x)
        silence = x.new_zeros(x.shape[0], horizon, self.gru2.input_size)
        y, _ = self.gru2(silence, state)
        return self.fc(y)


class VectorPredictor(nn.Module):
    """Positions (B, T+1, D) -> Forecast: normalise, run the network, put back, integrate.

    Velocity models read the differences of the last 21 positions, position models the last 20 positions.
    `compat` is what the published node does instead: it keeps 20 positions and repeats the last of their 19
    differences, which costs up to a factor of three on fast flight.
    """

    def __init__(
        self,
        network: Vector,
        normalisation: Normalisation,
        kind: Kind,
        *,
        dt: float = 0.1,
        horizon: int = HORIZON,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.normalisation, self.kind = network, normalisation, kind
        self.dt, self.history, self.horizon, self.compat = dt, HISTORY + 1, horizon, compat

    @property
    def extrapolates_after(self) -> int:
        """Steps that the network was trained for; later ones are extrapolated."""
        return HORIZON

    def inputs(self, past: Tensor) -> Tensor:
        """What is normalised and read: (B, 20, D)."""
        past = past[:, -self.history :]
        if self.kind == "position":
            return past[:, -HISTORY:]
        if not self.compat:
            return velocities(past, self.dt)
        seen = velocities(past[:, -HISTORY:], self.dt)
        return torch.cat([seen, seen[:, -1:]], 1)

    def forward(self, past: Tensor) -> Forecast:
        weights = self.network.fc.weight
        x = self.normalisation.apply(self.inputs(past))
        y = self.normalisation.invert(self.network(x.to(weights.dtype), self.horizon))
        mean = y if self.kind == "position" else past[:, -1:] + integrate(y, self.dt)
        return Forecast(mean, plain_spread(past, self.horizon, self.dt))


def plain_spread(past: Tensor, horizon: int, dt: float) -> Tensor:
    """Recent root mean square speed times time ahead, (B, K): for models without a spread of their own."""
    speed = velocities(past, dt).square().sum(-1).mean(1).sqrt() + 0.15
    ahead = dt * torch.arange(1, horizon + 1, dtype=past.dtype, device=past.device)
    return speed[:, None] * ahead


def ours(name: str) -> str:
    """`gru1.weight_ih_l0` -> `gru1.units.0.weight_ih`, our place of a published tensor."""
    module, _, rest = name.partition(".")
    tensor, mark, layer = rest.rpartition("_l")
    return f"{module}.units.{layer}.{tensor}" if mark and layer.isdigit() else name


def from_state(state: dict[str, Tensor]) -> Vector:
    """A network from a published state dict; its sizes are read from the tensors.

    Raises:
        WeightsError: a tensor is missing, unexpected, or of the wrong shape.
    """
    layers = sum(name.startswith("gru1.weight_ih_l") for name in state)
    if not layers or "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise WeightsError("these are no VECTOR weights: gru1.weight_ih_l0 or fc.weight is missing.")
    dims, hidden = state["fc.weight"].shape
    if not dims or not hidden:
        raise WeightsError(f"these are no VECTOR weights: fc.weight is {dims} x {hidden}.")
    mapped = {ours(name): tensor for name, tensor in state.items()}
    return network_for("VECTOR weights", mapped, lambda: Vector(dims, hidden, layers)).eval()


def read_stats(path: str | Path, normalisation: Literal["max", "white"]) -> tuple[Normalisation, Kind]:
    """Normalisation and kind of model from a published statistics file (.npz).

    Raises:
        WeightsError: the file cannot be read or lacks a key.
    """
    try:
        stats = arrays(Path(path), path, wanted=STATS, largest=STATISTICS)
    except WeightsError as error:
        raise WeightsError(f"{path}: not a statistics file of numpy (.npz): {error}") from error
    stats = {name: array for name, array in stats.items() if array.dtype.kind in "fiu"}
    kind: Kind = "velocity" if "max_velocity" in stats else "position"
    needed = ["max_velocity" if kind == "velocity" else "max_length"]
    needed = needed if normalisation == "max" else ["input_mean", "L_matrix"]
    missing = [name for name in needed if name not in stats]
    if missing:
        raise WeightsError(
            f"{path}: no {', '.join(missing)}; it has {', '.join(sorted(stats)) or 'nothing'}."
        )
    bad = [name for name in needed if not stats[name].size or not np.isfinite(stats[name]).all()]
    if bad:
        raise WeightsError(f"{path}: {bad[0]} is empty or not finite.")
    if normalisation == "max":
        if not np.ravel(stats[needed[0]])[0] > 0:
            raise WeightsError(f"{path}: {needed[0]} must be positive.")
        return Normalisation("max", maximum=float(np.ravel(stats[needed[0]])[0])), kind
    mean = torch.from_numpy(np.array(stats["input_mean"], dtype=np.float64)).reshape(-1)
    lower = torch.from_numpy(np.array(stats["L_matrix"], dtype=np.float64))
    if lower.shape != (len(mean), len(mean)):
        raise WeightsError(f"{path}: L_matrix is {tuple(lower.shape)}, input_mean has {len(mean)} numbers.")
    return Normalisation("cholesky_T", mean, lower), kind


def load_published(
    weights: str | Path,
    stats: str | Path,
    *,
    normalisation: Literal["max", "white"] | None = None,
    horizon: int = HORIZON,
    compat: bool = False,
) -> VectorPredictor:
    """Published weights (.pth) with their statistics (.npz).

    Args:
        normalisation: None reads it from the file name (`..._max_norm_...`, `..._white_norm_...`).

    Raises:
        WeightsError: a file is missing, foreign, or the normalisation cannot be told.
    """
    name = Path(weights).name
    if normalisation is None:
        found: list[Any] = [kind for kind in ("max", "white") if kind in name]
        if len(found) != 1:
            raise WeightsError(
                f"{name}: the name tells neither max nor white; say which normalisation it needs."
            )
        normalisation = found[0]
    network = from_state(load_torch(weights, LARGEST))
    scaling, kind = read_stats(stats, normalisation or "max")
    if scaling.kind != "max" and scaling.mean is not None and len(scaling.mean) != network.fc.out_features:
        raise WeightsError(
            f"{stats}: whitening of {len(scaling.mean)} coordinates, "
            f"{name} predicts {network.fc.out_features}."
        )
    return VectorPredictor(network, scaling, kind, horizon=horizon, compat=compat).eval()
