"""A loaded model as the stream needs it: compiled where that exists, eager torch otherwise."""

from typing import Any

import numpy as np
import torch

from apps.trajectory.dims import history_of, position_of
from apps.trajectory.fast import FastEngine
from apps.trajectory.model import Model
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.predict import as_predictions
from apps.trajectory.prediction import Prediction
from apps.trajectory.stream import Engine
from core.errors import ConfigError

SHORTEST = 4
"""Positions from which a stream is answered: balls hold from there on."""


class TorchEngine:
    """Any model, one track at a time, through torch."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.network: Any = model.network
        self.dt, self.history, self.dims = model.dt, model.history, model.dims
        self.horizon, self.follows = model.horizon, model.follows
        self.shortest = SHORTEST if model.follows else model.history

    def window(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Prediction:
        """past (T, D) metres, `step_s` apart -> prediction.

        Raises:
            DataError: fewer than two positions, or of another number of coordinates than the model's.
        """
        past = history_of(past, self.dims)
        found = self.model.forecast(past[None], step_s, None if through is None else through[None])
        step = step_s if self.model.follows else None
        return as_predictions(found, self.model, past[-1:], np.zeros(1), self.model.horizon, 0.9, step=step)[
            0
        ]

    def begin(self, position: np.ndarray) -> Any:
        """State of a track that starts here.

        Raises:
            DataError: the position has another number of coordinates than the model.
        """
        position = position_of(position, self.dims)
        start = self.network.initial_state(torch.zeros(1, self.dims, device=self.model.device))
        return (position, start, None, 0)

    def step(self, state: Any, position: np.ndarray) -> Any:
        """State after the next position, dt later.

        Raises:
            DataError: the position has another number of coordinates than the model.
        """
        position = position_of(position, self.dims)
        before, carried, _, seen = state
        velocity = torch.from_numpy((position - before) / self.dt).float()[None].to(self.model.device)
        with torch.no_grad():
            forecast, carried = self.network.step(velocity, carried)
        return (position, carried, forecast, seen + 1)

    def forecast(self, state: Any) -> Prediction | None:
        """Prediction from a carried state, from the third position on."""
        position, _, forecast, seen = state
        return None if seen < 2 else self.answer(forecast, position)

    def answer(self, forecast: Forecast, position: np.ndarray) -> Prediction:
        """A forecast that counts from `position`."""
        seen = forecast.cpu().at(torch.from_numpy(position)[None])
        return as_predictions(seen, self.model, position[None], np.zeros(1), self.model.horizon, 0.9)[0]


def engine_for(model: Model, mode: str = "window") -> Engine:
    """The fastest engine of a model for `window` or `stateful` mode.

    Raises:
        ConfigError: stateful mode of a model that was trained on windows.
    """
    network = model.network
    if mode == "stateful" and not (isinstance(network, Predictor) and network.config.stateful):
        raise ConfigError(
            f"{model.name} was trained on windows: use --mode window, or train with model.stateful=true."
        )
    if isinstance(network, Predictor) and model.device.type == "cpu":
        try:
            return FastEngine(network, model.calibration)
        except ValueError:  # an encoder that the compiled call does not cover
            pass
    return TorchEngine(model)
