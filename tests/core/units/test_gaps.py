"""Gaps between tokens, for units that are continuous in time."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core.state import tensors

TIMED = ["lru", "s4", "s4d", "s5", "mamba", "mamba2", "lem"]


def noisy(name: str) -> core.Unit:
    unit = core.build(name, 6).double()
    with torch.no_grad():
        for part in unit.parameters():
            part.add_(0.1 * torch.randn_like(part))
    return unit


def sample() -> tuple[Tensor, Tensor]:
    """Tokens (2, 7, 6) and gaps (2, 7)."""
    return torch.randn(2, 7, 6, dtype=torch.float64), 3 * torch.rand(2, 7, dtype=torch.float64)


def memory(name: str, state: object) -> list[Tensor]:
    """The state without the window of a convolution, which counts tokens and not time."""
    return list(tensors(state))[1:] if name in ("mamba", "mamba2") else list(tensors(state))


@pytest.mark.parametrize("name", TIMED)
def test_all_modes_steps_and_cuts_agree(name: str) -> None:
    unit, (x, gaps) = noisy(name), sample()
    y, end = unit(x, dt=gaps)
    for mode in unit.modes:
        if mode != "convolution":
            assert_close(unit(x, None, mode, dt=gaps)[0], y)
    state, rows = None, []
    for token, gap in zip(x.unbind(1), gaps.unbind(1), strict=True):
        out, state = unit.step(token, state, dt=gap)
        rows.append(out)
    assert_close(torch.stack(rows, 1), y)
    head, state = unit(x[:, :3], dt=gaps[:, :3])
    tail, final = unit(x[:, 3:], state, dt=gaps[:, 3:])
    assert_close(torch.cat([head, tail], 1), y)
    for ours, theirs in zip(tensors(final), tensors(end), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("name", TIMED)
def test_a_gap_of_one_is_none_and_of_zero_leaves_the_memory_alone(name: str) -> None:
    unit, (x, _) = noisy(name), sample()
    assert torch.equal(unit(x, dt=torch.ones(2, 7))[0], unit(x)[0])
    near, _ = unit(x, dt=torch.full((2, 7), 1 + 1e-9, dtype=torch.float64))
    assert_close(near, unit(x)[0], rtol=1e-6, atol=1e-6)
    _, state = unit(x)
    _, after = unit.step(x[:, 0], state, dt=0.0)
    for ours, theirs in zip(memory(name, after), memory(name, state), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["s4d", "s5"])
def test_a_gap_of_two_is_the_same_input_twice(name: str) -> None:
    unit, (x, _) = noisy(name), sample()
    _, state = unit(x)
    _, once = unit.step(x[:, 0], state, dt=2.0)
    _, twice = unit.step(x[:, 0], unit.step(x[:, 0], state)[1])
    assert_close(once, twice)


@pytest.mark.parametrize("name", ["lru", "mamba", "lem"])
def test_stacks_move_gaps_with_their_tokens(name: str) -> None:
    net, (x, gaps) = core.stack(name, 6, layers=3).double(), sample()
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 1, 1, 1, 1, 1, 1]]).bool()
    y, _ = net(x, mask=mask, dt=gaps)
    joined = torch.stack([gaps[0, 0], gaps[0, 1:3].sum(), gaps[0, 3], gaps[0, 4:].sum()])[None]
    assert_close(y[:1, mask[0]], net(x[:1, mask[0]], dt=joined)[0])
    y, _ = net(x, lengths=torch.tensor([7, 3]), dt=gaps)
    assert_close(y[1:, :3], net(x[1:, :3], dt=gaps[1:, :3])[0])
    reset = torch.zeros(2, 7, dtype=torch.bool)
    reset[0, 4] = True
    y, _ = net(x, reset=reset, dt=gaps)
    assert_close(y[:1, 4:], net(x[:1, 4:], dt=gaps[:1, 4:])[0])
    state, rows = None, []
    for token, gap in zip(x.unbind(1), gaps.unbind(1), strict=True):
        out, state = net.step(token, state, dt=gap)
        rows.append(out)
    assert_close(torch.stack(rows, 1), net(x, dt=gaps)[0])


@pytest.mark.parametrize("name", [name for name in core.unit_names() if name not in TIMED])
def test_other_units_refuse_in_one_sentence(name: str) -> None:
    unit = core.build(name, 6)
    for call in (
        lambda: unit(torch.zeros(1, 2, 6), dt=2.0),
        lambda: unit.step(torch.zeros(1, 6), None, dt=2.0),
    ):
        with pytest.raises(ValueError, match="not continuous in time"):
            call()


@pytest.mark.parametrize(
    ("dt", "word"), [(-1.0, "below zero"), (float("nan"), "finite"), (torch.ones(3), "shape")]
)
def test_impossible_gaps_are_refused(dt: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        core.build("lru", 6)(torch.zeros(1, 2, 6), dt=dt)
    with pytest.raises(ValueError, match="mode convolution"):
        core.build("s4d", 6)(torch.zeros(1, 2, 6), None, "convolution", dt=2.0)
