import torch
from torch.testing import assert_close

from core.units.matrix.aaren import Aaren


def test_is_attention_of_one_query_over_the_past() -> None:
    unit = Aaren(6, 8, heads=2).double()
    x = torch.randn(2, 10, 6, dtype=torch.float64)
    k, v = (part(x).view(2, 10, 2, 4).transpose(1, 2) for part in (unit.key, unit.value))
    query = unit.query.view(1, 2, 1, 4).expand(2, 2, 10, 4)
    o = torch.nn.functional.scaled_dot_product_attention(query, k, v, is_causal=True)
    assert_close(unit(x)[0], unit.output(o.transpose(1, 2).flatten(2)))


def test_the_state_does_not_grow() -> None:
    unit = Aaren(6, 8)
    shapes = [part.shape for part in unit(torch.randn(1, 500, 6))[1]]
    assert shapes == [part.shape for part in unit.initial_state(torch.zeros(1, 6))]
