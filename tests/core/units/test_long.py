"""A hundred thousand tokens in the default mode: float32 stays beside float64."""

import pytest
import torch

import core


@pytest.mark.slow
@pytest.mark.parametrize("name", core.unit_names())
def test_float32_holds_over_a_hundred_thousand_tokens(name: str) -> None:
    unit = core.build(name, 8)
    double = core.build(name, 8).double()
    double.load_state_dict(unit.state_dict())
    x = torch.randn(1, 100_000, 8)
    with torch.no_grad():
        expected = double(x.double())[0]
        found = unit(x)[0]
    assert (found.double() - expected).abs().max() < 5e-5 * (1 + expected.abs().max())
