"""What is particular to Mamba, beside the contract of every unit."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from core.parts.start import step_bias
from core.units.diagonal.mamba import Mamba


def test_step_sizes_start_between_a_thousandth_and_a_tenth() -> None:
    delta = functional.softplus(step_bias(10_000).double())
    assert delta.min() >= 0.99e-3
    assert delta.max() <= 0.101
    # uniform in the logarithm: half of them below the geometric mean
    assert abs((delta < 1e-2).double().mean() - 0.5) < 0.03


def test_rates_start_at_minus_one_to_minus_n() -> None:
    unit = Mamba(8, 8, state_size=4)
    assert_close(-unit.A_log.exp()[3], torch.tensor([-1.0, -2.0, -3.0, -4.0]))


def test_a_left_pad_mask_equals_skipping_the_tokens() -> None:
    unit = Mamba(8, 8).double()
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    y, state = unit.mix(x, unit.initial_state(x), mask=mask)
    alone, end = unit(x[:, 3:])
    assert_close(y[:, 3:], alone)
    assert_close(state[1], end[1])


def test_streaming_a_long_sequence_keeps_a_small_state() -> None:
    unit = Mamba(8, 8)
    state = unit.initial_state(torch.zeros(1, 8))
    with torch.no_grad():
        for _ in range(20):
            _, state = unit(torch.randn(1, 500, 8), state)
    assert state[0].shape == (1, 4, 16)
    assert state[1].shape == (1, 16, 16)
    assert state[1].isfinite().all()


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="whole state_size of 1 or more"):
        Mamba(8, 8, state_size=0)
