"""Deep stacks: pre-norm blocks, mixed layers, built units, and padding that stays zero."""

import pytest
import torch
from torch import Tensor, nn

import core
from core.errors import ConfigError
from core.parts.norm import RMSNorm
from core.units.contract import Unit


def test_more_than_two_layers_are_pre_norm_blocks_unless_told_otherwise() -> None:
    assert core.stack("gru", 8, layers=3).norm
    assert not core.stack("gru", 8, layers=2).norm
    assert not core.stack("gru", 8, layers=6, residual=True).norm
    plain = core.stack("gru", 8, layers=6, residual=False)
    assert (plain.norm, plain.residual) == (False, False)
    assert not [name for name, _ in plain.named_parameters() if "norm" in name]
    with pytest.raises(ConfigError, match="so it has a residual"):
        core.stack("gru", 8, residual=False, norm=True)


@pytest.mark.parametrize("directions", [1, 2])
def test_the_block_is_x_plus_f_of_norm(directions: int) -> None:
    net = core.stack("gru", 8, layers=3, directions=directions, merge="sum").double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    expected = x
    for layer in range(3):
        tokens = net.norms[layer](expected)
        y = net.units[layer * directions](tokens)[0]
        if directions == 2:
            y = y + net.units[layer * directions + 1](tokens.flip(1))[0].flip(1)
        expected = expected + y
    torch.testing.assert_close(net(x)[0], net.norms[-1](expected))


def test_steps_lengths_and_masks_of_blocks_equal_the_whole() -> None:
    net = core.stack(["gru", "mamba2", "s4d"], 8).double()
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    lengths = torch.tensor([7, 3, 0])
    padding = torch.arange(7) >= lengths[:, None]
    whole, _ = net(x)
    for how in ({"lengths": lengths}, {"mask": ~padding}):
        y, _ = net(x.masked_fill(padding[..., None], torch.nan), **how)
        torch.testing.assert_close(y, whole.masked_fill(padding[..., None], 0))
    state, rows = None, []
    for token in x.unbind(1):
        y, state = net.step(token, state)
        rows.append(y)
    torch.testing.assert_close(torch.stack(rows, 1), whole)


def test_gradients_do_not_see_what_padding_holds() -> None:
    net = core.stack("gru", 8, layers=3).double()
    x = torch.full((2, 5, 8), torch.nan, dtype=torch.float64)
    x[0], x[1, :2] = 1, 1
    net(x, lengths=torch.tensor([5, 2]))[0].sum().backward()
    assert all(bool(part.grad.isfinite().all()) for part in net.parameters())


def test_a_layer_of_another_width_stays_plain() -> None:
    net = core.stack("gru", 4, 8, layers=3)
    assert isinstance(net.norms[0], nn.Identity)
    assert all(isinstance(norm, RMSNorm) for norm in net.norms[1:])
    assert net(torch.randn(2, 3, 4))[0].shape == (2, 3, 8)


class Own(Unit):
    """A unit of somebody's."""

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.5 * state + x
        return h, h


def test_names_classes_and_built_units_mix() -> None:
    built = core.build("lstm", 8, 8, peephole=True)
    net = core.stack(["gru", Own, built], 8)
    assert net.layers == 3
    assert net.units[2] is built
    assert net(torch.randn(2, 3, 8))[0].shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("layers", "options", "word"),
    [
        ([], {}, "one for each layer"),
        (["gru", "gru"], {"layers": 3}, "one for each layer"),
        ([nn.Linear(8, 8)], {}, "takes a core.Unit"),
        ([core.build("gru", 5)], {}, "input width 8, got a GRU of input width 5"),
        ([core.build("gru", 8)], {"directions": 2}, "one direction only"),
        ([core.build("gru", 8)], {"reset": "before"}, "no options"),
    ],
)
def test_lists_that_do_not_fit_are_refused(layers: list, options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        core.stack(layers, 8, **options)
