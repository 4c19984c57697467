"""LRU and S5 beyond the battery."""

import pytest
import torch
from torch.testing import assert_close

import core
from core.units.diagonal.hippo import nplr
from core.units.diagonal.lru import LRU
from core.units.diagonal.s5 import S5


def test_decays_begin_on_the_ring_and_never_leave_the_unit_circle() -> None:
    torch.manual_seed(0)
    unit = LRU(4, 200, r_min=0.8, r_max=0.95)
    size = unit.coefficients()[0].abs()
    assert ((size > 0.79) & (size < 0.951)).all()
    with torch.no_grad():
        unit.nu_log.uniform_(-6, 6)
        assert (unit.coefficients()[0].abs() < 1).all()


def test_gamma_keeps_the_variance_of_the_state() -> None:
    torch.manual_seed(0)
    unit = LRU(16, 64, r_min=0.5, r_max=0.9)
    _, state = unit(torch.randn(200, 300, 16))
    assert state.square().sum(-1).mean().item() == pytest.approx(1.0, abs=0.1)


def test_the_output_is_the_complex_system_written_out() -> None:
    unit = LRU(3, 5, state_size=4).double()
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    a = (-unit.nu_log.exp() + 1j * unit.theta_log.exp()).exp()
    b = (unit.B_re + 1j * unit.B_im) * unit.gamma_log.exp()[:, None]
    h = torch.zeros(4, dtype=torch.complex128)
    for t in range(6):
        h = a * h + b @ x[0, t].to(h.dtype)
        y = ((unit.C_re + 1j * unit.C_im) @ h).real + unit.D @ x[0, t]
        assert_close(unit(x)[0][0, t], y)


def test_s5_holds_a_constant_input_as_the_exact_solution_does() -> None:
    unit = S5(2, 3, state_size=8).double()
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64).expand(1, 50, 2)
    poles = -unit.log_A_real.exp() + 1j * unit.A_imag
    drive = torch.view_as_complex(unit.B) @ x[0, 0].to(torch.complex128)
    exact = ((50 * unit.log_dt.exp() * poles).exp() - 1) / poles * drive
    assert_close(torch.view_as_complex(unit(x)[1][0].contiguous()), exact)


def test_s5_begins_with_the_poles_of_hippo() -> None:
    unit = S5(2, 3, state_size=16, blocks=2)
    poles = nplr("legs", 8)[0].repeat(2)
    assert_close(unit.A_imag.detach(), poles.imag.float())
    assert_close(unit.log_A_real.detach().exp(), -poles.real.float())


def test_impossible_options_are_named() -> None:
    with pytest.raises(ValueError, match="0 <= r_min < r_max <= 1"):
        core.build("lru", 4, r_min=0.9, r_max=0.5)
    with pytest.raises(ValueError, match="a state of 6 in 2 blocks"):
        core.build("s5", 4, state_size=6, blocks=2)
