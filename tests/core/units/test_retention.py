"""Retention as a masked quadratic form over relative positions."""

import torch
from torch.nn import functional as F
from torch.testing import assert_close

import core


def test_it_is_the_masked_quadratic_form() -> None:
    unit = core.build("retention", 12, heads=2).double()
    x = torch.randn(2, 30, 12, dtype=torch.float64)
    position = torch.arange(30)
    q, k, v, gate = unit.project(x, position.expand(2, 30))
    decay = 1 - torch.tensor([2.0**-5, 2.0**-6], dtype=torch.float64)
    mask = (decay.view(2, 1, 1) ** (position.view(-1, 1) - position)).tril()
    o = torch.einsum("bthk,bshk,hts,bshv->bthv", q, k, mask, v)
    assert_close(unit(x)[0], unit.output(F.silu(gate) * F.layer_norm(o, (6,)).flatten(-2)))


def test_only_relative_positions_matter() -> None:
    unit = core.build("retention", 8).double()
    x = torch.randn(2, 10, 8, dtype=torch.float64)
    memory, seen = unit.initial_state(x)
    assert_close(unit(x, (memory, seen + 1_000_000))[0], unit(x)[0], rtol=0, atol=1e-8)


def test_a_change_of_type_does_not_round_its_constants() -> None:
    unit = core.build("retention", 512, heads=8)
    memory = torch.zeros(1, dtype=torch.float64)
    expected = unit.log_decay(memory)
    assert expected[-1] == torch.log1p(torch.tensor(-(2.0**-12), dtype=torch.float64))
    assert_close(unit.bfloat16().log_decay(memory), expected, rtol=0, atol=0)
