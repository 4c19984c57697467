import pytest
import torch
from torch.testing import assert_close

from core.errors import ConfigError
from core.units.window.fsmn import FSMN


def by_definition(unit: FSMN, x: torch.Tensor) -> torch.Tensor:
    p = unit.project(unit.expand(x).relu())
    time = x.shape[1]
    rows = []
    for t in range(time):
        m = p[:, t]
        for i in range(unit.order + 1):
            if t - i * unit.stride >= 0:
                m = m + unit.taps[:, i] * p[:, t - i * unit.stride]
        for j in range(1, unit.look_ahead + 1):
            if t + j * unit.look_ahead_stride < time:
                m = m + unit.future_taps[:, j - 1] * p[:, t + j * unit.look_ahead_stride]
        rows.append(m)
    return torch.stack(rows, 1)


@pytest.mark.parametrize("reach", [(0, 1, 0, 1), (3, 2, 0, 1), (2, 1, 3, 2), (4, 3, 1, 1)])
@pytest.mark.parametrize("time", [1, 4, 13])
def test_equals_its_definition(reach: tuple[int, int, int, int], time: int) -> None:
    order, stride, look_ahead, ahead = reach
    unit = FSMN(5, 6, order=order, stride=stride, look_ahead=look_ahead, look_ahead_stride=ahead).double()
    x = torch.randn(2, time, 5, dtype=torch.float64)
    assert_close(unit(x)[0], by_definition(unit, x))


def test_a_unit_that_looks_ahead_cannot_go_step_by_step() -> None:
    unit = FSMN(5, 6, look_ahead=2)
    with pytest.raises(ValueError, match="looks 2 tokens ahead"):
        unit.step(torch.zeros(1, 5), unit.initial_state(torch.zeros(1, 5)))


def test_it_forgets_what_left_the_window() -> None:
    unit = FSMN(5, 6, order=3, stride=2)
    x = torch.randn(1, 20, 5)
    changed = x.clone()
    changed[:, 4] += 1
    same = (unit(x)[0] == unit(changed)[0]).all(-1)[0]
    assert (~same).nonzero().flatten().tolist() == [4, 6, 8, 10]


def test_orders_and_strides_make_sense() -> None:
    with pytest.raises(ConfigError, match="orders of 0 or more"):
        FSMN(5, 6, order=-1)
    with pytest.raises(ConfigError, match="strides of 1 or more"):
        FSMN(5, 6, stride=0)
