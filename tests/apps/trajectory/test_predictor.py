"""Our predictor: invariances, streaming, every choice of the configuration."""

import math

import pytest
import torch

from apps.trajectory.config import AugmentConfig, ModelConfig, TrainConfig, WindowConfig
from apps.trajectory.models.predictor import Predictor
from core.errors import ConfigError


def model_of(seed: int = 0, **choices: object) -> Predictor:
    torch.manual_seed(seed)
    model = Predictor(ModelConfig(hidden=12, **choices), WindowConfig())  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        model.outer.bias.uniform_(-1, 1)
    return model.double().eval()


def flight(batch: int = 4, time: int = 21, dims: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (0.3 * torch.randn(batch, time, dims, dtype=torch.float64, generator=generator)).cumsum(1)


@pytest.mark.parametrize("representation", ["mixture", "residual_over_cv", "velocity", "position_relative"])
@pytest.mark.parametrize("head", ["point", "gaussian", "quantile"])
def test_every_representation_and_head_answers_all_steps(representation: str, head: str) -> None:
    forecast = model_of(representation=representation, head=head)(flight())
    assert forecast.mean.shape == (4, 20, 3)
    assert (forecast.spread > 0).all()
    assert (forecast.cholesky is not None) == (head == "gaussian")
    assert (forecast.quantiles is not None) == (head == "quantile")


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_moving_and_turning_a_flight_moves_and_turns_its_prediction(dims: int, stateful: bool) -> None:
    model, past = model_of(dims=dims, stateful=stateful), flight(dims=dims)
    rotation = torch.eye(dims, dtype=torch.float64)
    c, s = math.cos(0.7), math.sin(0.7)
    rotation[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    shift = torch.full((dims,), 1e5, dtype=torch.float64)
    plain, moved = model(past), model(past @ rotation.T + shift)
    torch.testing.assert_close(moved.mean, plain.mean @ rotation.T + shift, atol=1e-6, rtol=0)
    turned = rotation @ plain.covariance() @ rotation.T
    torch.testing.assert_close(moved.covariance(), turned, atol=1e-6, rtol=1e-6)


def test_without_the_yaw_frame_only_the_origin_is_forgotten() -> None:
    model, past = model_of(frame="none"), flight()
    torch.testing.assert_close(model(past + 50).mean, model(past).mean + 50, atol=1e-9, rtol=0)
    turned = past[..., [1, 0, 2]]
    assert (model(turned).mean[..., [1, 0, 2]] - model(past).mean).abs().max() > 1e-3


def test_a_forgotten_past_does_not_matter_and_a_short_one_is_allowed() -> None:
    model, past = model_of(), flight(time=40)
    torch.testing.assert_close(model(past).mean, model(past[:, -21:]).mean)
    assert model(past[:, -4:]).mean.shape == (4, 20, 3)


@pytest.mark.parametrize("unit", ["gru", "lstm", "min_gru"])
def test_stepping_a_stream_equals_reading_it_whole(unit: str) -> None:
    model, past = model_of(stateful=True, unit=unit), flight(time=30)
    velocity = past.diff(dim=1) / model.dt
    state = model.initial_state(velocity[:, 0])
    for sample in velocity.unbind(1):
        forecast, state = model.step(sample, state)
    whole = model(past)
    torch.testing.assert_close(forecast.at(past[:, -1]).mean, whole.mean)
    torch.testing.assert_close(forecast.covariance(), whole.covariance())


def test_a_model_of_windows_refuses_to_stream() -> None:
    with pytest.raises(ValueError, match="trained on windows"):
        model_of().initial_state(torch.zeros(1, 3))


def test_a_new_model_predicts_constant_velocity() -> None:
    torch.manual_seed(0)
    model = Predictor(ModelConfig(hidden=12, representation="residual_over_cv"), WindowConfig()).double()
    torch.nn.init.zeros_(model.outer.weight)
    past = flight()
    ahead = torch.arange(1, 21, dtype=torch.float64)[:, None]
    expected = past[:, -1:] + ahead * (past[:, -1:] - past[:, -2:-1])
    torch.testing.assert_close(model(past).mean, expected)


def test_the_covariance_never_claims_less_than_a_centimetre() -> None:
    model = model_of()
    with torch.no_grad():
        model.outer.bias[model.sizes[0] + model.sizes[1] :] = -50
    forecast = model(torch.zeros(1, 21, 3, dtype=torch.float64))
    assert forecast.covariance().diagonal(dim1=-2, dim2=-1).min() >= 1e-4 - 1e-12


def test_quantiles_are_in_order() -> None:
    quantiles = model_of(head="quantile")(flight()).quantiles
    assert (quantiles.diff(dim=2) >= 0).all()


def test_markers_and_other_sizes_are_a_matter_of_configuration() -> None:
    torch.manual_seed(0)
    window = WindowConfig(dt=0.4, history=8, horizon=12)
    model = Predictor(ModelConfig(hidden=8, dims=9, frame="none", unit="min_gru"), window)
    assert model(torch.randn(2, 8, 9)).mean.shape == (2, 12, 9)


def test_the_transformer_answers_like_any_other_encoder() -> None:
    model, past = model_of(encoder="transformer", heads=4), flight()
    torch.testing.assert_close(model(past + 7).mean, model(past).mean + 7, atol=1e-9, rtol=0)
    assert model(past[:, -5:]).mean.shape == (4, 20, 3)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dims": 9}, "needs 2 or 3 dims"),
        ({"encoder": "transformer", "stateful": True}, "carries no state"),
        ({"encoder": "transformer", "hidden": 10}, "must be a multiple"),
        ({"representation": "position_relative", "stateful": True}, "no stateful mode"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(choices: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**choices)


def test_windows_must_hold_something() -> None:
    with pytest.raises(ConfigError, match="history must be 3 to 10000"):
        WindowConfig(history=2)
    with pytest.raises(ConfigError, match=r"longer than window\.history"):
        TrainConfig(window=WindowConfig(history=5), augment=AugmentConfig(shortest=6))


@pytest.mark.parametrize("head", ["point", "gaussian", "quantile"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_mirrored_flight_is_answered_with_the_mirrored_prediction(dims: int, head: str) -> None:
    model, past = model_of(dims=dims, head=head).eval(), flight(dims=dims)
    flip = torch.ones(dims, dtype=past.dtype)
    flip[1] = -1
    found, other = model(past), model(past * flip)
    torch.testing.assert_close(other.mean, found.mean * flip, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other.spread, found.spread, atol=1e-5, rtol=1e-4)


def test_an_exact_line_goes_on_exactly_at_any_speed() -> None:
    model = model_of().eval()
    speed = torch.tensor([0.5, 30.0, 250.0], dtype=torch.float64)
    past = (torch.arange(21)[:, None] * 0.1 * speed[:, None, None]) * torch.tensor([0.8, 0.6, 0.01])
    ahead = torch.arange(1, 21)[:, None] * 0.1 * speed[:, None, None] * torch.tensor([0.8, 0.6, 0.01])
    torch.testing.assert_close(model(past).mean, past[:, -1:] + ahead, atol=2e-3, rtol=1e-5)
