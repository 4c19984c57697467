"""ONNX files of trajectory networks answer as torch does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.export import export_onnx, metadata, session
from apps.trajectory.features import Normalisation
from apps.trajectory.model import Model
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.models.vector import Vector, VectorPredictor
from core.errors import DataError, RecurraError


@pytest.mark.parametrize(
    "options",
    [
        {"unit": "gru"},
        pytest.param({"unit": "min_gru"}, marks=pytest.mark.slow),
        pytest.param({"unit": "lstm", "frame": "none", "representation": "velocity"}, marks=pytest.mark.slow),
        pytest.param({"encoder": "transformer", "hidden": 16}, marks=pytest.mark.slow),
        {"stateful": True},
    ],
    ids=str,
)
def test_our_networks(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = {"hidden": 16, "representation": "residual_over_cv", "mirror": False}
    network = Predictor(ModelConfig(**{**plain, **options}), WindowConfig(horizon=6)).eval()
    assert export_onnx(network, tmp_path / "a.onnx") < 1e-4


def test_the_mixture_takes_any_batch_and_says_what_a_client_needs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Predictor(ModelConfig(hidden=8, layers=1), WindowConfig(horizon=6)).eval()
    calibration = Calibration.fit(np.tile(np.arange(1.0, 200.0)[:, None], (1, 6)))
    model = Model(network, "ours", 3, 0.1, 21, 6, calibration)
    assert export_onnx(network, tmp_path / "a.onnx", metadata(model)) < 1e-4
    told = onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).get_modelmeta().custom_metadata_map
    assert (told["dt"], told["history"], told["axes"]) == ("0.1", "21", "east,north,up")
    assert json.loads(told["factors"])["0.9"] == [180.0] * 6


def test_the_published_network_and_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VectorPredictor(Vector(3, 8, 2), Normalisation("max", maximum=8.0), "velocity").eval()
    assert export_onnx(network, tmp_path / "a.onnx") < 1e-4
    past = torch.randn(5, 21, 3, dtype=torch.float64).cumsum(1)
    mean, _ = session(tmp_path / "a.onnx")(past.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(mean, network(past).mean, atol=1e-5)
    for wrong in (1, 2, 4):
        with pytest.raises(
            DataError, match=rf"past has the shape \(5, 21, {wrong}\); the graph takes .* 3\)"
        ):
            session(tmp_path / "a.onnx")(np.zeros((5, 21, wrong)))


def test_nothing_is_left_behind_when_it_fails(tmp_path: Path) -> None:
    network = Predictor(ModelConfig(hidden=8), WindowConfig(horizon=3)).eval()
    with pytest.raises(RecurraError, match="cannot be written"):
        export_onnx(network, tmp_path / "missing" / "a.onnx")
    assert not list(tmp_path.iterdir())
