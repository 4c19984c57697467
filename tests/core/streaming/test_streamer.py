"""A stream gives what the unit gives, and leaves everything else alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import core
from core.state import detach, tensors
from core.streaming import Streamer
from core.units.contract import Unit


def noisy(network: Any) -> Any:
    """Noise on parameters whose initial values would hide errors behind zeros."""
    with torch.no_grad():
        for part in network.parameters():
            part.add_(0.1 * torch.randn_like(part))
    return network


def follow(network: Any, dtype: torch.dtype, tolerance: float) -> Streamer:
    """Steps of the stream beside those of the network, states included."""
    stream = core.streaming.open(network, batch=2)
    state = network.initial_state(torch.zeros(2, network.input_size, dtype=dtype))
    for _ in range(5):
        x = torch.randn(2, network.input_size, dtype=dtype)
        y, state = network.step(x, state)
        torch.testing.assert_close(stream.step(x), y.detach(), rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(tensors(stream.state), tensors(detach(state)), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    return stream


@pytest.mark.parametrize("name", core.unit_names())
def test_a_stream_follows_every_unit(name: str) -> None:
    assert follow(noisy(core.build(name, 8)), torch.float32, 1e-5).compiled


@pytest.mark.parametrize("name", ["gru", "lru", "s4", "retention", "mamba2", "rwkv7", "rg_lru"])
def test_in_float64_too(name: str) -> None:
    assert follow(
        noisy(core.build(name, 8)).double(), torch.float64, 1e-6 if name == "retention" else 1e-11
    ).compiled


def test_mixed_stacks_of_blocks_stream() -> None:
    net = noisy(core.stack(["gru", "mamba2", "lstm", "s4d"], 8))
    assert net.norm
    assert follow(net, torch.float32, 1e-5).compiled


def test_other_widths_and_options_stream() -> None:
    for name, options in (("lstm", {"projection": 3, "peephole": True}), ("gru", {"reset": "before"})):
        assert follow(noisy(core.build(name, 5, 7, **options)), torch.float32, 1e-5).compiled


def test_module_generator_and_callers_state_are_left_alone() -> None:
    unit = core.build("gru", 8)
    before = torch.random.get_rng_state()
    stream = Streamer(unit)
    given = torch.randn(1, 8)
    kept, x = given.clone(), torch.randn(1, 8)
    torch.random.set_rng_state(before)
    stream.state = given
    token = x.clone()
    stream.step(x)
    assert unit.training
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(given, kept)
    assert torch.equal(x, token)
    state = stream.state
    stream.step(x)
    assert not torch.equal(state, stream.state)


def test_a_stream_branches_and_begins_anew() -> None:
    stream, x = Streamer(core.build("mamba", 8)), np.ones((1, 8), np.float32)
    first = stream.step(x)
    halfway = stream.state
    second = stream.step(x)
    stream.state = halfway
    np.testing.assert_array_equal(stream.step(x), second)
    stream.reset()
    np.testing.assert_array_equal(stream.step(x), first)


def test_changed_weights_are_noticed() -> None:
    unit = core.build("s4d", 8)
    stream, x = Streamer(unit), torch.randn(1, 8)
    stream.step(x)
    state = stream.state
    with torch.no_grad():
        for part in unit.parameters():
            part.mul_(1.1)
    torch.testing.assert_close(stream.step(x), unit.step(x, state)[0].detach())
    unit.log_dt.data = unit.log_dt.data * 0.5  # nobody counts this
    stream.refresh()
    state = stream.state
    torch.testing.assert_close(stream.step(x), unit.step(x, state)[0].detach())


def test_another_part_of_a_network_is_noticed() -> None:
    unit = core.build("linear_attention", 8)
    stream, x = Streamer(unit), torch.randn(1, 8)
    stream.step(x)
    state = stream.state
    name, part = next((n, p) for n, p in unit.named_children() if isinstance(p, torch.nn.Linear))
    setattr(unit, name, torch.nn.Linear(part.in_features, part.out_features, bias=part.bias is not None))
    torch.testing.assert_close(stream.step(x), unit.step(x, state)[0].detach())


def test_wrong_shapes_are_named() -> None:
    stream = Streamer(core.build("gru", 8), batch=2)
    with pytest.raises(ValueError, match=r"takes x of shape \(2, 8\), got \(1, 8\)"):
        stream.step(np.zeros((1, 8), np.float32))
    with pytest.raises(ValueError, match=r"state of shape \(.*\), got \(3, 8\)"):
        stream.state = torch.zeros(3, 8)
    with pytest.raises(ValueError, match="reads the future"):
        Streamer(core.stack("gru", 8, directions=2))


class Odd(Unit):
    """A unit of somebody's, with an operator that the machine lacks."""

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.special.bessel_j0(x + state)
        return h, h


def test_what_the_machine_lacks_goes_through_the_eager_step() -> None:
    stream = follow(Odd(4, 4), torch.float32, 1e-6)
    assert not stream.compiled
