"""torch.compile and torch.export take every unit as one graph, which torch refuses its own layers."""

import pytest
import torch

import core

SOME = ("gru", "mamba2", "rg_lru")
"""One of each kind in the daily suite, the others in the long one."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SOME else [pytest.mark.slow]) for n in core.unit_names()]
)
def test_a_unit_is_one_graph(name: str) -> None:
    torch._dynamo.reset()
    unit = core.build(name, 8)
    x = torch.randn(2, 9, 8)
    y, _ = torch.compile(unit, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(y, unit(x)[0], rtol=1e-4, atol=1e-5)


ANY_LENGTH = {"min_gru", "min_lstm", "lru", "s5", "hgrn", "qrnn", "rg_lru", "fsmn"}
"""Units whose graph holds for any number of tokens."""
FEW = ("gru", "min_gru", "mamba")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FEW else [pytest.mark.slow]) for n in core.unit_names()]
)
def test_a_unit_exports_at_one_length_and_says_what_to_do_for_any(name: str) -> None:
    unit = core.build(name, 8).eval()
    x, other = torch.randn(2, 9, 8), torch.randn(2, 17, 8)
    graph = torch.export.export(unit, (x,)).module()
    torch.testing.assert_close(graph(x)[0], unit(x)[0], rtol=1e-4, atol=1e-5)
    free = {"x": {1: torch.export.Dim("time", min=2, max=1000)}}
    if name not in ANY_LENGTH:
        with pytest.raises(ValueError, match=r"core\.export\.export_sequence"):
            torch.export.export(unit, (x,), dynamic_shapes=free)
        return
    graph = torch.export.export(unit, (x,), dynamic_shapes=free).module()
    torch.testing.assert_close(graph(other)[0], unit(other)[0], rtol=1e-4, atol=1e-5)
