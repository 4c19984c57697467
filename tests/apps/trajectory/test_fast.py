"""The compiled predictor equals the network in torch, in both modes."""

from typing import Any

import numpy as np
import pytest
import torch

from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.engine import TorchEngine
from apps.trajectory.fast import FastEngine
from apps.trajectory.model import Model
from apps.trajectory.models.predictor import Predictor
from core.errors import DataError


def random_model(**changes: Any) -> Predictor:
    torch.manual_seed(3)
    model = Predictor(ModelConfig(hidden=16, **changes), WindowConfig(horizon=7)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


def flights(count: int, dims: int = 3) -> torch.Tensor:
    steps = torch.randn(count, 21, dims, dtype=torch.float64).cumsum(1) * 0.1
    return 1000 + steps.cumsum(1) * 0.1


VARIANTS = [
    {"head": head, "representation": representation, "frame": frame}
    for head in ("point", "gaussian", "quantile")
    for representation, frame in (
        ("mixture", "yaw"),
        ("mixture", "none"),
        ("residual_over_cv", "yaw"),
        ("velocity", "none"),
        ("position_relative", "yaw"),
    )
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(o.values()))
def test_a_window_equals_torch(options: dict[str, Any]) -> None:
    model, past = random_model(**options), flights(5)
    with torch.no_grad():
        expected = model(past)
    engine = FastEngine(model)
    for row in range(5):
        answer = engine.window(past[row].numpy())
        np.testing.assert_allclose(answer.mean, expected.mean[row], atol=2e-5)
        if options["head"] == "gaussian":
            np.testing.assert_allclose(answer.covariance, expected.covariance()[row], rtol=1e-4, atol=1e-6)
        if options["head"] == "quantile":
            np.testing.assert_allclose(answer.quantiles, expected.quantiles[row], atol=1e-5)
            np.testing.assert_allclose(answer.axes, expected.axes[row], atol=1e-6)


@pytest.mark.parametrize("time", [3, 4, 7, 14, 21])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_short_window_of_any_step_equals_torch(time: int, dims: int) -> None:
    network, past = random_model(dims=dims), flights(1, dims)[0, -time:].numpy()
    expected = Model(network, "random", dims, 0.1, 21, 7).forecast(past[None], step_s=0.7)
    answer = FastEngine(network).window(past, step_s=0.7)
    np.testing.assert_allclose(answer.mean, expected.mean[0], atol=2e-4)
    np.testing.assert_allclose(answer.covariance, expected.covariance()[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(answer.ahead_s, 0.7 * np.arange(1, 8))


def test_lines_through_finer_samples_take_the_place_of_those_through_the_window() -> None:
    network, past = random_model(), flights(1)[0]
    through = torch.randn(1, 2, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = network(past[None], through)
    answer = FastEngine(network).window(past.numpy(), through=through[0].numpy())
    np.testing.assert_allclose(answer.mean, expected.mean[0], atol=2e-4)
    assert not np.allclose(answer.mean, FastEngine(network).window(past.numpy()).mean, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_carried_state_equals_torch(dims: int) -> None:
    model, past = random_model(stateful=True, dims=dims), flights(1, dims)[0]
    engine = FastEngine(model)
    state = engine.begin(past[0].numpy())
    for count in range(1, 21):
        state = engine.step(state, past[count].numpy())
        answer = engine.forecast(state)
        if count < 2:
            assert answer is None
            continue
        with torch.no_grad():
            expected = model(past[None, : count + 1]).mean[0]
        np.testing.assert_allclose(answer.mean, expected, atol=2e-5)
    np.testing.assert_allclose(engine.window(past.numpy()).mean, answer.mean, atol=1e-9)


def test_radii_are_the_calibrated_spread() -> None:
    model, past = random_model(head="gaussian"), flights(1)
    calibration = Calibration.fit(np.random.default_rng(0).random((300, 7)) * 2)
    answer = FastEngine(model, calibration).window(past[0].numpy())
    with torch.no_grad():
        spread = model(past).spread[0].double().numpy()
    np.testing.assert_allclose(answer.radius, calibration.factor(0.1) * spread, rtol=1e-4)


def test_a_hovering_drone_is_no_division_by_zero() -> None:
    model = random_model(head="gaussian")
    past = torch.ones(1, 21, 3, dtype=torch.float64)
    answer = FastEngine(model).window(past[0].numpy())
    with torch.no_grad():
        np.testing.assert_allclose(answer.mean, model(past).mean[0], atol=1e-5)


def test_what_cannot_be_compiled_is_said() -> None:
    with pytest.raises(ValueError, match="recurrent encoder"):
        FastEngine(random_model(encoder="transformer"))
    with pytest.raises(ValueError, match="reset-after GRUs"):
        FastEngine(random_model(unit="lstm"))
    with pytest.raises(ValueError, match="trained on windows"):
        FastEngine(random_model()).begin(np.zeros(3))


def engines(dims: int, *, stateful: bool) -> list[Any]:
    """The compiled engine and torch's, of the same network."""
    network = random_model(dims=dims, stateful=stateful, head="gaussian")
    model = Model(network, "random", dims, 0.1, 21, 7)
    return [FastEngine(network), TorchEngine(model)]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("dims", "wrong"), [(2, 1), (2, 3), (2, 4), (3, 0), (3, 1), (3, 2), (3, 4), (3, 40)])
def test_no_engine_takes_another_number_of_coordinates(dims: int, wrong: int, stateful: bool) -> None:
    sentence = f"has {wrong} coordinates; the model predicts {dims}"
    for engine in engines(dims, stateful=stateful):
        with pytest.raises(DataError, match=sentence):
            engine.window(np.zeros((21, wrong)))
        with pytest.raises(DataError, match="a history must be two or more positions"):
            engine.window(np.zeros((1, dims)))
        with pytest.raises(DataError, match=sentence):
            engine.begin(np.zeros(wrong))
        if stateful:
            state = engine.begin(np.zeros(dims))
            with pytest.raises(DataError, match=sentence):
                engine.step(state, np.zeros(wrong))


def test_a_longer_history_is_cut_and_a_foreign_state_refused() -> None:
    past = flights(1)[0].numpy()
    for engine in engines(3, stateful=False):
        longer = np.concatenate([past[:1] - np.arange(30, 0, -1)[:, None], past])
        np.testing.assert_array_equal(engine.window(longer).mean, engine.window(past).mean)
    other = FastEngine(random_model(dims=2, stateful=True)).begin(np.zeros(2))
    with pytest.raises(ValueError, match="state has the sizes"):
        FastEngine(random_model(stateful=True)).step(other, np.zeros(3))


@pytest.mark.parametrize("wrong", [1, 2, 4])
def test_the_network_itself_takes_its_own_coordinates_only(wrong: int) -> None:
    model = random_model(stateful=True)
    with pytest.raises(ValueError, match="predicts 3 coordinates"):
        model(torch.zeros(1, 21, wrong))
    with pytest.raises(ValueError, match="predicts 3 coordinates"):
        model.step(torch.zeros(1, wrong), model.initial_state(torch.zeros(1, 3)))
