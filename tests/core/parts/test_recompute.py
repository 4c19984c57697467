"""Recomputed activations and dropped branches: the same numbers, less kept, the same draws again."""

import copy

import pytest
import torch
from torch import nn

import core
from core.parts.drop_path import DropPath
from core.parts.recompute import checkpointed


class Layer(nn.Module):
    """A recurrent branch that is sometimes left out."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = core.build("min_gru", 6, 6)
        self.drop = DropPath(0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.unit(x)[0])


def trained(layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Output, gradients and how many numbers were kept for them."""
    kept = 0

    def keep(part: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += part.numel()
        return part

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        y = layer(x)
    y.square().sum().backward()
    return y.detach(), [part.grad.clone() for part in layer.parameters() if part.grad is not None], kept


def test_a_checkpointed_layer_gives_the_same_numbers_and_draws_and_keeps_less() -> None:
    plain = Layer()
    saved = checkpointed(copy.deepcopy(plain))
    x = torch.randn(5, 40, 6)
    one, two = trained(plain, x), trained(saved, x)
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=0)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert two[2] < 0.5 * one[2]
    assert list(plain.state_dict()) == list(saved.state_dict())


def test_a_copy_of_a_checkpointed_layer_has_weights_of_its_own() -> None:
    layer = checkpointed(Layer())
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for part in other.parameters():
            part.zero_()
    x = torch.randn(1, 7, 6)
    torch.testing.assert_close(other.eval()(x), x)
    assert not torch.equal(layer.eval()(x), x)
    assert checkpointed(layer) is layer


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_dropped_branches_keep_their_mean_and_come_again_with_the_state_of_the_generator(rate: float) -> None:
    drop = DropPath(rate)
    x = torch.ones(4000, 2)
    state = torch.get_rng_state()
    first = drop(x)
    torch.set_rng_state(state)
    assert torch.equal(first, drop(x))
    assert abs(first.mean().item() - 1) < 0.05
    assert first.unique().tolist() == pytest.approx([1.0] if rate == 0 else [0.0, 1 / (1 - rate)])
    assert torch.equal(drop.eval()(x), x)
