"""GLA and HGRN2 at the ends of their gates."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import core
from core.errors import ConfigError


def test_open_gates_make_gla_plain_linear_attention() -> None:
    unit = core.build("gla", 8, heads=2).double()
    unit.gate_up.bias.data.fill_(1e4)
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    q, k, v, log_decay, r = unit.project(x)
    assert not log_decay.any()
    o = torch.einsum("bthk,bshk->bhts", q, k).tril() @ v.transpose(1, 2)
    expected = unit.output(F.silu(r) * unit.norm(o.transpose(1, 2)).flatten(-2))
    assert_close(unit(x)[0], expected)


def test_closed_gates_make_gla_forget_everything_but_the_token() -> None:
    unit = core.build("gla", 8).double()
    unit.gate_up.bias.data.fill_(-1e5)
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    alone = torch.cat([unit(x[:, t : t + 1])[0] for t in range(20)], 1)
    assert_close(unit(x)[0], alone)


def test_the_forget_gate_of_hgrn2_stays_above_its_lower_bound() -> None:
    unit = core.build("hgrn2", 8, lower_bound=0.9).double()
    x = 100 * torch.randn(2, 50, 8, dtype=torch.float64)
    _, k, _, log_f = unit.project(x)
    assert log_f.exp().min() >= 0.9 - 1e-12
    assert_close(k, 1 - log_f.exp())
    with pytest.raises(ConfigError, match=r"lower_bound of HGRN2 must be in \[0, 1\), got 1"):
        core.build("hgrn2", 8, lower_bound=1)


def test_the_state_of_hgrn2_is_bounded_by_its_values() -> None:
    unit = core.build("hgrn2", 8).double()
    x = 10 * torch.randn(2, 500, 8, dtype=torch.float64)
    _, _, v, _ = unit.project(x)
    assert unit(x)[1].abs().max() <= v.abs().max()
