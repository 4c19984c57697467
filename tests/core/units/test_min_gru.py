import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.testing import assert_close

from core.units.diagonal.min_gru import MinGRU
from core.units.diagonal.min_lstm import MinLSTM


def log_space(log_decay: Tensor, log_value: Tensor) -> Tensor:
    """The authors' scan: h_t = exp(A_t + logcumsumexp(log b - A)), A the running sum of the log decays."""
    total = log_decay.cumsum(1)
    return (total + (log_value - total).logcumsumexp(1)).exp()


def log_g(v: Tensor) -> Tensor:
    return torch.where(v >= 0, (v.relu() + 0.5).log(), -softplus(-v))


def test_positive_values_give_the_log_space_form_of_min_gru() -> None:
    unit = MinGRU(3, 5, positive=True).double()
    x = torch.randn(2, 40, 3, dtype=torch.float64)
    k, v = unit.gate(x), unit.value(x)
    assert_close(unit(x)[0], log_space(-softplus(k), -softplus(-k) + log_g(v)))


def test_positive_values_give_the_log_space_form_of_min_lstm() -> None:
    unit = MinLSTM(3, 5, positive=True).double()
    x = torch.randn(2, 40, 3, dtype=torch.float64)
    difference = softplus(-unit.forget_gate(x)) - softplus(-unit.input_gate(x))
    assert_close(unit(x)[0], log_space(-softplus(difference), -softplus(-difference) + log_g(unit.value(x))))


def test_min_lstm_gates_sum_to_one_where_both_underflow() -> None:
    unit = MinLSTM(1, 2)
    with torch.no_grad():
        unit.forget_gate.bias.fill_(-200.0)
        unit.input_gate.bias.fill_(-201.0)
        for layer in (unit.forget_gate, unit.input_gate):
            layer.weight.zero_()
    z, _ = unit.terms(torch.zeros(1, 1, 1))
    assert_close(z, torch.full_like(z, torch.sigmoid(torch.tensor(-1.0)).item()))


def test_a_gate_that_is_open_copies_and_one_that_is_shut_keeps() -> None:
    unit = MinGRU(2, 2).double()
    x, state = torch.randn(1, 6, 2, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    with torch.no_grad():
        unit.gate.weight.zero_()
        unit.gate.bias.fill_(60.0)
        assert_close(unit(x, state)[0], unit.value(x))
        unit.gate.bias.fill_(-60.0)
        assert_close(unit(x, state)[1], state)


def test_the_state_is_wider_than_the_output_with_expansion() -> None:
    unit = MinGRU(4, 6, expansion=1.5)
    y, state = unit(torch.zeros(2, 3, 4))
    assert (y.shape, state.shape) == ((2, 3, 6), (2, 9))
    with pytest.raises(ValueError, match="leaves no state"):
        MinGRU(4, 6, expansion=0.1)


def test_min_lstm_divides_the_input_gate_by_the_sum_of_both() -> None:
    unit = MinLSTM(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    f, i = unit.forget_gate(x).sigmoid(), unit.input_gate(x).sigmoid()
    assert_close(unit.terms(x)[0], i / (f + i))
