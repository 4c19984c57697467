"""Weights as arrays for the compiled engine, without torch: a stream starts in a third of the time.

Only what is whole and known is taken. Anything else goes the usual way through `model.load_model`, which says
what is wrong with it.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.config import TrainConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.fast import FastEngine, Network
from core import config as settings
from core.bundled import check_index, find
from core.door import safetensors_arrays
from core.errors import RecurraError, WeightsError

DEFAULT = "trajectory-gru"
"""The bundled weights that answer when none are named."""
LARGEST = 256 << 20
"""Bytes of a file that is looked at here; a recurrent network for one track is a thousandth of it."""


def light_engine(weights: str | Path, mode: str = "window") -> FastEngine | None:
    """The compiled engine of weights, or None where torch has to look at them."""
    if Path(weights).suffix in (".pth", ".pt"):
        return None
    try:
        path = find(weights)
        if path.stat().st_size > LARGEST:
            return None
        data = path.read_bytes()
        check_index(path, data)
        card, tensors = opened(data)
        if card["task"] != "trajectory" or card["extra"].get("unfinished"):
            return None
        network = Network(*configs(card), tensors)
        if mode == "stateful" and not network.model.stateful:
            return None
        stored = card["extra"].get("calibration")
        calibration = None if stored is None else Calibration.from_dict(stored)
        fits = calibration is None or len(calibration.factors) == network.window.horizon
        return FastEngine(network, calibration) if fits else None
    except (RecurraError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def opened(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Card and finite float32 tensors of a safetensors file.

    Raises:
        ValueError: not such a file, or numbers that are none.
    """
    try:
        given, told = safetensors_arrays("weights", data)
    except WeightsError as error:
        raise ValueError(str(error)) from error
    tensors = {name: array.astype(np.float32) for name, array in given.items()}
    if not all(math.isfinite(float(np.abs(array).max(initial=0))) for array in tensors.values()):
        raise ValueError("a value is not finite")
    if told["recurra"] != "1":
        raise ValueError("a newer version")
    tied = json.loads(told.get("tied", "{}"))
    return json.loads(told["card"]), {**tensors, **{name: tensors[owner] for name, owner in tied.items()}}


def configs(card: dict[str, Any]) -> tuple[Any, Any]:
    """Settings of the network and of its windows that a card describes."""
    kept = {name: dict(card["settings"].get(name, {})) for name in ("model", "window")}
    kept["model"].setdefault("mirror", False)  # earlier cards do not know the words
    kept["model"].setdefault("grain", False)
    kept["model"].setdefault("fine", False)
    config = settings.replace(TrainConfig(), kept)
    return config.model, config.window
