"""torch.compile takes every unit as one graph, which torch refuses its own recurrent layers."""

import pytest
import torch

import core

SOME = ("gru", "mamba2", "rg_lru")
"""One of each kind in the daily suite, the others in the long one."""


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SOME else [pytest.mark.slow]) for n in core.unit_names()]
)
def test_a_unit_is_one_graph(name: str) -> None:
    torch._dynamo.reset()
    unit = core.build(name, 8)
    x = torch.randn(2, 9, 8)
    y, _ = torch.compile(unit, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(y, unit(x)[0], rtol=1e-4, atol=1e-5)
