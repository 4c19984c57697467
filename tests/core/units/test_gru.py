"""What a GRU is, in its published forms."""

import pytest
import torch
from torch.testing import assert_close

import core
from core.errors import ConfigError


def test_both_resets_agree_where_the_reset_gate_is_open() -> None:
    after = core.build("gru", 3, 4).double()
    after.bias_ih.data[:4] = 60.0
    before = core.build("gru", 3, 4, reset="before").double()
    before.load_state_dict(after.state_dict())
    x = torch.randn(2, 5, 3).double()
    assert_close(after(x)[0], before(x)[0])


def test_the_reset_before_the_product_is_that_of_the_paper() -> None:
    unit, x, h = (
        core.build("gru", 3, 4, reset="before").double(),
        torch.randn(1, 3).double(),
        torch.randn(1, 4).double(),
    )
    W, U, b = unit.weight_ih.chunk(3), unit.weight_hh.chunk(3), (unit.bias_ih + unit.bias_hh).chunk(3)
    r, z = ((x @ W[gate].T + h @ U[gate].T + b[gate]).sigmoid() for gate in (0, 1))
    n = (x @ W[2].T + (r * h) @ U[2].T + b[2]).tanh()
    assert_close(unit(x[:, None], h)[1], (1 - z) * n + z * h)


def test_a_gate_that_writes_is_a_gate_that_keeps_with_the_other_sign() -> None:
    keep, write = core.build("gru", 3, 4), core.build("gru", 3, 4, update="write")
    weights = {name: tensor.clone() for name, tensor in keep.state_dict().items()}
    for tensor in weights.values():
        tensor[4:8] *= -1
    write.load_state_dict(weights)
    x = torch.randn(2, 5, 3)
    assert_close(keep(x)[0], write(x)[0])


@pytest.mark.parametrize("options", [{"reset": "never"}, {"update": "both"}])
def test_unknown_forms_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"of a GRU is"):
        core.build("gru", 4, **options)
