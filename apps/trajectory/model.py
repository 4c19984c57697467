"""A network that is ready to predict: bundled, trained or published weights, with their calibration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from apps.trajectory.conformal import Calibration
from apps.trajectory.dims import histories_of
from apps.trajectory.light import DEFAULT, configs
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.models.vector import load_published
from core.errors import WeightsError
from core.weights import Card, load_network

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Model:
    """A network that is ready to predict, with its calibration and the card of its weights."""

    network: nn.Module
    name: str
    dims: int
    dt: float
    history: int
    horizon: int
    calibration: Calibration | None = None
    card: Card | None = None
    device: torch.device = CPU

    @property
    def follows(self) -> bool:
        """Whether it answers windows of any step; published networks know their own alone."""
        return isinstance(self.network, Predictor)

    @torch.no_grad()
    def forecast(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Forecast:
        """Histories (N, T, D), newest last -> Forecast on the CPU, means in float64.

        Args:
            step_s: seconds between the positions, and of the answer's steps; None: the model's own dt. Speeds
                are what the model knows, so lengths shrink as the step grows and are stretched again.
            through: (N, 2, 2, D) ends and slopes of lines through all samples of a faster recorder, see
                `mixture.lines`.

        Raises:
            DataError: the histories have another number of coordinates than the model.
        """
        batch = torch.from_numpy(histories_of(past, self.dims)).to(self.device)
        lines = None if through is None else torch.from_numpy(through).to(self.device)
        if not self.follows:
            return self.network(batch).cpu()
        if step_s is None or step_s == self.dt:
            return self.network(batch, lines).cpu()
        last, shrink = batch[:, -1], self.dt / step_s
        found = self.network((batch - last[:, None]) * shrink, None if lines is None else lines * shrink)
        return found.scaled(1 / shrink).at(last).cpu()

    def factor(self, coverage: float = 0.9) -> np.ndarray | None:
        """Conformal radius per unit of spread, (K,); None without calibration."""
        return None if self.calibration is None else self.calibration.factor(1 - coverage)


def load_model(
    weights: str | Path = DEFAULT,
    stats: str | Path | None = None,
    *,
    normalisation: Literal["max", "white"] | None = None,
    compat: bool = False,
    device: str | torch.device = "cpu",
) -> Model:
    """A bundled name, a weights file or a run folder; or published weights (.pth) with statistics (.npz).

    Args:
        normalisation: of published weights; None reads it from the file name.
        compat: published weights as the shipped node runs them, see `VectorPredictor`.
        device: where the network runs; forecasts come back to the CPU.

    Raises:
        WeightsError: nothing there, foreign, damaged, or published weights without `stats`.
    """
    if Path(weights).suffix in (".pth", ".pt"):
        if stats is None:
            raise WeightsError(f"{weights}: published weights need their statistics, a .npz file, as stats.")
        vector = load_published(weights, stats, normalisation=normalisation, compat=compat)
        dims = vector.network.fc.out_features
        sizes = dims, vector.dt, vector.history, vector.horizon
        return Model(vector.to(device), Path(weights).stem, *sizes, device=torch.device(device))
    loaded = load_network(weights, "trajectory", rebuilt, device=device)
    network: Any = loaded.network
    stored = loaded.card.extra.get("calibration")
    calibration = None if stored is None else calibrated(loaded.path, stored, network.horizon)
    sizes = network.dims, network.dt, network.history, network.horizon
    return Model(network, loaded.name, *sizes, calibration, loaded.card, torch.device(device))


def calibrated(path: Path, stored: Any, horizon: int) -> Calibration:
    """The calibration of a card.

    Raises:
        WeightsError: it is damaged, or for another horizon.
    """
    try:
        found = Calibration.from_dict(stored)
    except (WeightsError, AttributeError) as error:
        raise WeightsError(f"{path}: {error}") from error
    if found.factors.shape != (horizon, len(found.levels)) or not (found.factors >= 0).all():  # NaN too
        raise WeightsError(
            f"{path}: its calibration is not one of {horizon} steps with a positive factor each."
        )
    return found


def rebuilt(card: Card) -> Predictor:
    """The network that a card's settings describe, without its weights."""
    return Predictor(*configs({"settings": card.settings}))
