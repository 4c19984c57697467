import pytest
import torch
from torch.testing import assert_close

from core.errors import ConfigError
from core.units.matrix.mlstm import MLSTM


def test_a_stored_pair_is_read_back() -> None:
    unit = MLSTM(4, 4).double()
    torch.nn.init.constant_(unit.gates.bias, 10.0)
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    _, (memory, n, m) = unit(x)
    k, v = unit.key(x).flatten() / 2, unit.value(x).flatten()
    assert_close(memory[0, 0], torch.outer(k, v))  # i is the maximum, so it is stored with weight one
    assert_close(n[0, 0], k)
    assert_close(m, torch.full((1, 1), 15 * torch.tensor(10 / 15).tanh().item(), dtype=torch.float64))


def test_forget_gates_begin_open() -> None:
    unit = MLSTM(8, 256)
    assert_close(unit.gates.bias[4:].detach(), torch.linspace(3, 6, 4))
    assert not unit.gates.weight.any()


@pytest.mark.parametrize("gate", ["exponential", "sigmoid"])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_inputs_stay_finite(gate: str, scale: float) -> None:
    unit = MLSTM(8, 8, heads=2, input_gate=gate)
    torch.nn.init.normal_(unit.gates.weight)
    y, _ = unit(scale * torch.randn(2, 90, 8))
    y.sum().backward()
    assert y.isfinite().all()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in unit.parameters()
    )


def test_other_input_gates_are_refused() -> None:
    with pytest.raises(ConfigError, match="exponential, sigmoid, got 'relu'"):
        MLSTM(8, 8, input_gate="relu")
