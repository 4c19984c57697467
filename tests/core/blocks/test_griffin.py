"""Hawk and Griffin keep the contract of a unit: cut anywhere, step by step, explicit state."""

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from core.battery import close, results
from core.blocks.griffin import GRIFFIN, HAWK, Griffin, RecurrentBlock, ResidualBlock
from core.errors import ConfigError
from core.state import choose, detach, rows
from core.units.contract import Unit
from core.units.window.attention import LocalAttention

WIDTH = 8
BLOCKS: dict[str, Callable[[], Unit]] = {
    "recurrent": lambda: RecurrentBlock(WIDTH, WIDTH, lru_size=12, heads=2, conv_width=3),
    "attention": lambda: LocalAttention(WIDTH, WIDTH, heads=2, window=5),
    "residual": lambda: ResidualBlock(RecurrentBlock(WIDTH, WIDTH), 10),
    "griffin": lambda: Griffin(WIDTH, 3, pattern=GRIFFIN, window=4),
    "hawk": lambda: Griffin(WIDTH, 2, pattern=HAWK, heads=2),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def make(name: str) -> Unit:
    torch.manual_seed(1)
    return BLOCKS[name]().double()


def sample(time: int = 11) -> torch.Tensor:
    return torch.randn(3, time, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@every_block
@pytest.mark.parametrize("time", [1, 11, pytest.param(37, marks=pytest.mark.slow)])
def test_all_modes_agree_on_outputs_states_and_gradients(name: str, time: int) -> None:
    unit = make(name)
    for start in (None, detach(unit(sample(4).flip(0))[1])):
        ours, gradients = results(unit, sample(time), "step", start)
        for mode in unit.modes[1:]:
            other, others = results(unit, sample(time), mode, start)
            close(other, ours, 1e-9)
            for a, b in zip(others, gradients, strict=True):
                close(a, b, 1e-8)


@every_block
def test_a_sequence_can_be_cut_anywhere(name: str) -> None:
    unit, x = make(name), sample()
    whole, end = unit(x)
    for cut in (1, 5, 10):
        head, state = unit(x[:, :cut])
        tail, final = unit(x[:, cut:], state)
        close(torch.cat([head, tail], 1), whole)
        close(final, end)


@every_block
def test_rows_can_be_reordered_and_started_afresh(name: str) -> None:
    unit, x = make(name), sample()
    state = unit(x)[1]
    order = torch.tensor([2, 0, 0])
    close(unit(x[order], rows(state, order))[0], unit(x, state)[0][order])
    mixed = choose(torch.tensor([True, False, True]), state, unit.initial_state(x))
    close(unit(x, mixed)[0][1], unit(x)[0][1])


@pytest.mark.slow
@every_block
def test_gradients_are_right(name: str) -> None:
    unit, x = make(name), sample(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unit(x)[0], x, atol=1e-6)


@every_block
def test_half_precision_stays_near_single(name: str) -> None:
    unit = make(name).float()
    x = sample().float()
    expected = unit(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = unit(x)
    assert (y.float() - expected).abs().max() < 0.1 * (1 + expected.abs().max())
    y, _ = unit.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.15 * (1 + expected.abs().max())


def test_the_residual_is_around_temporal_block_and_network() -> None:
    block = make("residual")
    assert isinstance(block, ResidualBlock)
    x = sample()
    middle = x + block.temporal_block(block.temporal_pre_norm(x))[0]
    assert_close(block(x)[0], middle + block.mlp_block(block.channel_pre_norm(middle)))


def test_griffin_repeats_its_pattern() -> None:
    kinds = [type(layer.temporal_block) for layer in Griffin(8, 7).layers]
    assert kinds == [RecurrentBlock, RecurrentBlock, LocalAttention] * 2 + [RecurrentBlock]


def test_misfits_are_named() -> None:
    with pytest.raises(ConfigError, match="a pattern of"):
        Griffin(8, 2, pattern=("recurrent", "dense"))
    with pytest.raises(ConfigError, match="equal widths"):
        ResidualBlock(RecurrentBlock(8, 6), 10)
