import pytest
import torch
from torch.testing import assert_close

from core.units.diagonal.hgrn import HGRN, lower_bounds


def test_bounds_rise_from_zero_and_stay_below_one() -> None:
    bounds = lower_bounds(torch.randn(5, 7, dtype=torch.float64))
    assert not bounds[0].any()
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds < 1).all()


def test_no_input_can_make_a_layer_forget_faster_than_its_bound() -> None:
    unit = HGRN(3, 4, lower_bound=0.8)
    decay, _ = unit.terms(100 * torch.randn(50, 3))
    assert (decay >= 0.8).all()


def test_rotation_by_no_angle_is_two_real_units() -> None:
    unit = HGRN(3, 4, rotation=True).double()
    with torch.no_grad():
        unit.theta.zero_()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    decay, value = unit.terms(x)
    assert not decay.imag.any()
    _, state = unit(x)
    for part, series in enumerate((value.real, value.imag)):
        h = torch.zeros(2, 4, dtype=torch.float64)
        for t in range(9):
            h = decay.real[:, t] * h + series[:, t]
        assert_close(state[..., part], h)


def test_a_bound_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1"):
        HGRN(3, 4, lower_bound=1.0)
