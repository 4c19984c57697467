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
from core.errors import WeightsError

HISTORY = 20
"""Samples that the published weights were trained to read."""
HORIZON = 10
"""Steps that they were trained to make."""
Kind = Literal["velocity", "position"]


class Vector(nn.Module):
    """Normalised x (B, T, D) -> normalised y (B, K, D)."""

    def __init__(self, dims: int, hidden: int, layers: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.gru1 = core.stack("gru", dims, hidden, layers=layers, dropout=dropout)
        self.gru2 = core.stack("gru", hidden, hidden, layers=layers)
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
    network = Vector(dims, hidden, layers)
    mapped = {ours(name): tensor for name, tensor in state.items()}
    expected = network.state_dict()
    missing, foreign = sorted(expected.keys() - mapped), sorted(mapped.keys() - expected)
    if missing or foreign:
        raise WeightsError(
            f"VECTOR weights do not fit: missing {missing or 'none'}, unexpected {foreign or 'none'}."
        )
    for name, tensor in mapped.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{name} is {tuple(tensor.shape)} in the file, {tuple(expected[name].shape)} in the model."
            )
    network.load_state_dict(mapped)
    return network.eval()


def read_stats(path: str | Path, normalisation: Literal["max", "white"]) -> tuple[Normalisation, Kind]:
    """Normalisation and kind of model from a published statistics file (.npz).

    Raises:
        WeightsError: the file cannot be read or lacks a key.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stats = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a statistics file of numpy (.npz).") from error
    kind: Kind = "velocity" if "max_velocity" in stats else "position"
    needed = ["max_velocity" if kind == "velocity" else "max_length"]
    needed = needed if normalisation == "max" else ["input_mean", "L_matrix"]
    missing = [name for name in needed if name not in stats]
    if missing:
        raise WeightsError(
            f"{path}: no {', '.join(missing)}; it has {', '.join(sorted(stats)) or 'nothing'}."
        )
    if normalisation == "max":
        return Normalisation("max", maximum=float(np.ravel(stats[needed[0]])[0])), kind
    mean = torch.from_numpy(np.array(stats["input_mean"], dtype=np.float64)).reshape(-1)
    lower = torch.from_numpy(np.array(stats["L_matrix"], dtype=np.float64))
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
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every kind of damage
        raise WeightsError(f"{weights}: not a torch checkpoint ({type(error).__name__}).") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{weights}: holds no plain state dict.")
    scaling, kind = read_stats(stats, normalisation or "max")
    return VectorPredictor(from_state(state), scaling, kind, horizon=horizon, compat=compat).eval()
