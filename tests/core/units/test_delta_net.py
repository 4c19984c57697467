"""What the delta rule adds: it corrects, it can rotate, and its state stays bounded."""

import pytest
import torch
from torch.testing import assert_close

import core
from core.errors import ConfigError
from core.units.matrix.delta_product import delta_product_scan

UNITS = ("delta_net", "gated_delta_net", "delta_product")


@pytest.mark.parametrize("name", UNITS)
def test_the_state_stays_bounded_over_long_sequences(name: str) -> None:
    unit = core.build(name, 8).double()
    x = torch.randn(1, 4000, 8, dtype=torch.float64)
    start = unit.initial_state(x)[0], 10 * torch.eye(8, dtype=torch.float64).view(1, 1, 8, 8)
    assert unit(x, start)[1][1].norm() < 100


@pytest.mark.parametrize("name", UNITS)
def test_long_streams_in_pieces_keep_a_state_of_fixed_size(name: str) -> None:
    unit, state = core.build(name, 4), None
    x = torch.randn(1, 2**14, 4)
    with torch.no_grad():
        for _ in range(3):
            y, state = unit(x, state)
    assert y.isfinite().all()
    assert sum(part.numel() for part in state) == sum(part.numel() for part in unit.initial_state(x))


def test_two_steps_of_a_token_rotate_what_is_stored() -> None:
    """Reflections at e_1 and at a vector 45 degrees from it turn the plane by 90 degrees."""
    keys = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]], dtype=torch.float64).view(1, 1, 2, 1, 2)
    zeros, twice = torch.zeros_like(keys), torch.full((1, 1, 2, 1), 2.0, dtype=torch.float64)
    stored = torch.eye(2, dtype=torch.float64).view(1, 1, 2, 2)
    _, turned = delta_product_scan(keys[:, :, 0], keys, zeros, twice, state=stored)
    assert_close(turned[0, 0], torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))


def test_beta_reaches_two_only_with_negative_eigenvalues() -> None:
    for name in ("delta_net", "gated_delta_net"):
        assert core.build(name, 8).beta_range == 1
        assert core.build(name, 8, negative_eigenvalues=True).beta_range == 2


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="key heads that divide its 4 heads, got 3"):
        core.build("gated_delta_net", 8, heads=4, key_heads=3)
    with pytest.raises(ConfigError, match="whole steps of 1 or more, got 0"):
        core.build("delta_product", 8, steps=0)
