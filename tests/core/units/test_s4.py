"""S4 and S4D beyond the battery: kernels, blocks of a long convolution, remembered coefficients."""

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core.units.diagonal.block_convolution import BLOCK
from core.units.diagonal.s4 import S4, dense, real_row

SYSTEMS = ["s4", "s4d"]


def make(name: str, **options: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return core.build(name, 3, 4, **options).double()


def sample(time: int) -> Tensor:
    return torch.randn(2, time, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("time", [BLOCK, BLOCK + 1, 2 * BLOCK + 77])
def test_convolution_over_several_blocks_equals_stepping(name: str, time: int) -> None:
    unit, x = make(name, state_size=8), sample(time)
    start = unit(sample(9))[1].detach()
    results = []
    for mode in ("sequential", "convolution"):
        y, end = unit(x, start, mode)
        leaves = list(unit.parameters())
        results.append((y, end, torch.autograd.grad((y * y).sum() + end.sum(), leaves)))
    assert_close(results[0], results[1], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("time", [1, 2, 10, 33])
def test_the_kernel_is_the_answer_to_an_impulse(name: str, time: int) -> None:
    unit = make(name, state_size=6)
    impulse = torch.zeros(1, time, 3, dtype=torch.float64)
    impulse[0, 0] = 1
    seen: list[Tensor] = []
    unit.readout = lambda v, x: seen.append(v) or v  # what leaves the linear system
    unit(impulse, None, "sequential")
    assert_close(unit.kernel(time).T, seen[0][0])


def test_the_structured_step_solves_the_dense_bilinear_system() -> None:
    unit = make("s4", state_size=6)
    assert isinstance(unit, S4)
    dt, poles, p, b, c = unit.terms()
    both, low = (torch.cat([part, part.conj()], 1) for part in (poles, p))
    a = torch.diag_embed(both) - low[..., None] * low.conj()[:, None]
    eye, half = torch.eye(6, dtype=a.dtype), dt[..., None] / 2 * a
    a_bar = torch.linalg.solve(eye - half, eye + half)
    b_bar = torch.linalg.solve(eye - half, dt * torch.cat([b, b.conj()], 1))
    ours, ours_b = dense(dt, poles, p, b)
    assert_close(ours.diagonal(dim1=1, dim2=2).sum(1), a_bar.diagonal(dim1=1, dim2=2).sum(1).real)
    row = torch.cat([c, c.conj()], 1)[:, None]
    for count in range(4):
        expected = (row @ torch.linalg.matrix_power(a_bar, count) @ b_bar[..., None]).real
        found = real_row(c)[:, None] @ torch.linalg.matrix_power(ours, count) @ ours_b[..., None]
        assert_close(found, expected)


@pytest.mark.parametrize("name", [*SYSTEMS, "s5", "lru"])
def test_a_stream_sees_every_change_of_the_parameters(name: str) -> None:
    unit, x = make(name).eval(), sample(4)

    def streamed() -> Tensor:
        with torch.no_grad():
            state, rows = unit.initial_state(x), []
            for token in x.unbind(1):
                y, state = unit.step(token, state)
                rows.append(y)
            return torch.stack(rows, 1)

    assert_close(streamed(), unit(x)[0].detach())
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.add_(0.1)
    assert_close(streamed(), unit(x)[0].detach())
    unit.load_state_dict({key: value - 0.1 for key, value in unit.state_dict().items()})
    assert_close(streamed(), unit(x)[0].detach())
    for parameter in unit.parameters():
        parameter.data = parameter.data + 0.1
    assert_close(streamed(), unit(x)[0].detach())
    for parameter in unit.parameters():
        parameter.data.add_(0.1)
    unit.eval()
    assert_close(streamed(), unit(x)[0].detach())
    assert copy.deepcopy(unit).remembered is None
    assert pickle.loads(pickle.dumps(unit)).remembered is None


def test_odd_states_and_unknown_starts_are_named() -> None:
    with pytest.raises(ValueError, match="S4 needs an even state_size, got 5"):
        make("s4", state_size=5)
    with pytest.raises(ValueError, match="init of S4D is one of lin, inv"):
        core.build("s4d", 4, init="random")
