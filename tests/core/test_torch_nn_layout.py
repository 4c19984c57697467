"""State dicts of torch.nn, both ways."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import core
from core.blocks.directions import run_directions
from core.errors import WeightsError
from core.layouts.torch_nn import load_torch_nn, torch_nn_layer, torch_nn_state_dict

PEERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def pair(name: str, layers: int, directions: int, bias: bool = True, projection: int | None = None):  # noqa: ANN201
    torch.manual_seed(0)
    options = {} if projection is None else {"projection": projection}
    shape = {"layers": layers, "directions": directions, "residual": False}
    ours = core.stack(name, 5, 6, **shape, bias=bias, **options)
    options = {} if projection is None else {"proj_size": projection}
    theirs = PEERS[name](5, 6, layers, bias=bias, batch_first=True, bidirectional=directions == 2, **options)
    return ours, theirs


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(("layers", "directions", "bias"), [(1, 1, True), (3, 2, True), (2, 1, False)])
def test_loading_from_torch_gives_the_same_outputs(
    name: str, layers: int, directions: int, bias: bool
) -> None:
    ours, theirs = pair(name, layers, directions, bias)
    load_torch_nn(ours, theirs.state_dict())
    x = torch.randn(3, 7, 5)
    assert_close(ours(x)[0], theirs(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PEERS)
def test_torch_takes_our_weights_in_its_own_order(name: str) -> None:
    ours, theirs = pair(name, 2, 2)
    given = torch_nn_state_dict(ours)
    assert list(given) == list(theirs.state_dict())
    theirs.load_state_dict(given)
    x = torch.randn(3, 7, 5)
    assert_close(ours(x)[0], theirs(x)[0], rtol=1e-5, atol=1e-6)


def test_projections_are_exchanged_too() -> None:
    ours, theirs = pair("lstm", 2, 2, projection=3)
    load_torch_nn(ours, theirs.state_dict())
    x = torch.randn(3, 7, 5)
    assert_close(ours(x)[0], theirs(x)[0], rtol=1e-5, atol=1e-6)
    assert torch_nn_state_dict(ours).keys() == theirs.state_dict().keys()


def test_a_single_unit_is_layer_zero() -> None:
    unit, theirs = core.build("gru", 5, 6), nn.GRU(5, 6, batch_first=True)
    load_torch_nn(unit, theirs.state_dict())
    x = torch.randn(2, 4, 5)
    assert_close(unit(x)[0], theirs(x)[0], rtol=1e-5, atol=1e-6)


def test_every_problem_is_named_and_nothing_is_copied() -> None:
    ours, theirs = pair("gru", 1, 1)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    given = theirs.state_dict()
    del given["bias_hh_l0"]
    given["weight_hh_l0"] = torch.zeros(24, 6)
    given["weight_ih_l1"] = torch.zeros(18, 6)
    with pytest.raises(WeightsError) as caught:
        load_torch_nn(ours, given)
    message = str(caught.value)
    assert "bias_hh_l0 is missing" in message
    assert "weight_ih_l1 is not expected" in message
    assert "weight_hh_l0 is (24, 6), expected (18, 6)" in message
    for name, tensor in ours.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("directions", [1, 2])
def test_units_of_a_layer_become_torchs(name: str, directions: int) -> None:
    units = [core.build(name, 5, 6) for _ in range(directions)]
    x = torch.randn(3, 7, 5)
    assert_close(torch_nn_layer(units)(x)[0], run_directions(units, x)[0], rtol=1e-5, atol=1e-6)
    for other in (core.build("rnn", 5, 6), core.build(name, 5, 6, bias=False)):
        with pytest.raises(WeightsError, match="with biases"):
            torch_nn_layer([other])


@pytest.mark.parametrize(
    ("name", "options"), [("lstm", {"peephole": True}), ("gru", {"reset": "before"}), ("mgu", {})]
)
def test_what_torch_does_not_have_is_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match=r"torch\.nn has no"):
        torch_nn_state_dict(core.build(name, 4, **options))
