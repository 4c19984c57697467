import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels import newton as module
from core.kernels.block_scan import block_scan, block_scan_chunked
from core.kernels.block_scan.definition import block_scan_ref
from core.kernels.newton import Step, jacobian, loop, newton, shifted
from core.units.gated.indrnn import indrnn_step
from core.units.gated.para_gru import para_gru_step
from core.units.gated.para_lstm import para_lstm_step

WIDTH = 5


def wild_step(gates: Tensor, state: tuple[Tensor, ...], weights: tuple[Tensor | None, ...]):  # noqa: ANN201
    """A chaotic map: no iteration settles on a long sequence."""
    h = gates + 3.9 * state[0] * (1 - state[0])
    return h, (h.clamp(-2, 2),)


def steep_step(gates: Tensor, state: tuple[Tensor, ...], weights: tuple[Tensor | None, ...]):  # noqa: ANN201
    """Its derivative away from the solution is so large that products of it overflow."""
    h = gates + 0.1 * state[0].tanh() + 1e30 * torch.relu(state[0].abs() - 2)
    return h, (h,)


def indrnn_tanh(gates: Tensor, state: tuple[Tensor, ...], weights: tuple[Tensor | None, ...]):  # noqa: ANN201
    return indrnn_step("tanh", gates, state, weights)


# step, gates per channel, states, sizes of the weights
CELLS = {
    "gru": (para_gru_step, 3, 1, (3 * WIDTH,)),
    "lstm": (para_lstm_step, 3, 2, (3 * WIDTH, 2 * WIDTH)),
    "indrnn": (indrnn_tanh, 1, 1, (WIDTH,)),
}
every_cell = pytest.mark.parametrize("cell", CELLS)


def sample(cell: str, batch: int, time: int, scale: float = 1.0):  # noqa: ANN201
    step, count, states, sizes = CELLS[cell]
    generator = torch.Generator().manual_seed(time)

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    state = tuple(draw(batch, WIDTH) for _ in range(states))
    return step, draw(batch, time, count * WIDTH), state, tuple(map(draw, sizes))


def gradients(solve, step: Step, gates, state, weights):  # noqa: ANN001, ANN201
    leaves = [part.clone().requires_grad_() for part in (gates, *state, *weights)]
    h = solve(step, leaves[0], tuple(leaves[1 : 1 + len(state)]), tuple(leaves[1 + len(state) :]))
    weighted = [part * torch.linspace(-1, 1, part.numel()).view(part.shape) for part in h]
    loss = torch.stack(weighted).sum()
    return h, torch.autograd.grad(loss, leaves)


@every_cell
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 2), (3, 40), (2, 700)])
def test_the_solution_and_its_gradients_equal_the_loop(cell, batch, time, scale) -> None:  # noqa: ANN001
    case = sample(cell, batch, time, scale)
    h, found = gradients(newton, *case)
    expected, wanted = gradients(loop, *case)
    assert_close(h, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-8 * (1 + theirs.abs().max().item()))


@every_cell
def test_gradients_are_right(cell) -> None:  # noqa: ANN001
    step, gates, state, weights = sample(cell, 2, 4)
    leaves = [part.requires_grad_() for part in (gates, *state, *weights)]

    def solve(gates: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return newton(step, gates, rest[: len(state)], rest[len(state) :])

    assert torch.autograd.gradcheck(solve, leaves)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_few_iterations_solve_a_long_sequence_of_an_ordinary_cell(cell, monkeypatch) -> None:  # noqa: ANN001
    step, gates, state, weights = sample(cell, 2, 2000, 0.5)
    monkeypatch.setattr(module, "loop", None)  # the loop of steps would fail
    monkeypatch.setattr(module, "ITERATIONS", 7)
    h = newton(step, gates, state, weights)
    assert_close(step(gates, shifted(state, h), weights)[1], h, rtol=1e-12, atol=1e-12)


def test_iterations_that_do_not_settle_give_way_to_the_loop() -> None:
    gates, start = torch.rand(3, 400, 2, dtype=torch.float64) * 1e-3, torch.rand(3, 2, dtype=torch.float64)
    assert_close(newton(wild_step, gates, (start,), ()), loop(wild_step, gates, (start,), ()), rtol=0, atol=0)


def test_iterations_that_overflow_give_way_to_the_loop() -> None:
    gates = torch.randn(2, 50, 3)
    gates[1] = 0.5  # an easy row beside a hard one
    start = torch.zeros(2, 3)
    assert_close(newton(steep_step, gates, (start,), ()), loop(steep_step, gates, (start,), ()))


@every_cell
def test_nan_reaches_what_comes_after_it_and_no_other_row(cell) -> None:  # noqa: ANN001
    step, gates, state, weights = sample(cell, 3, 30)
    clean = newton(step, gates, state, weights)
    gates[1, 12, 0] = torch.nan
    for part, before in zip(newton(step, gates, state, weights), clean, strict=True):
        assert part[1, 12:, 0].isnan().all()
        assert_close(part[[0, 2]], before[[0, 2]])
        assert_close(part[1, :12], before[1, :12])


@every_cell
def test_jacobian_blocks_are_the_derivatives(cell) -> None:  # noqa: ANN001
    step, gates, state, weights = sample(cell, 2, 3)
    before = tuple(part[:, None].repeat(1, 3, 1).requires_grad_() for part in state)
    blocks = jacobian(step(gates, before, weights)[1], before)
    whole = torch.autograd.functional.jacobian(lambda *h: step(gates[0, 0], h, weights)[1], state_of(state))
    for i, row in enumerate(whole):
        for j, part in enumerate(row):
            assert_close(part.diagonal(), blocks[0, 0, i, j])
            assert_close(part, part.diagonal().diag())


def state_of(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part[0] for part in state)


def test_half_precision_is_solved_in_single() -> None:
    step, gates, state, weights = sample("gru", 2, 20)
    half = [part.bfloat16() for part in (gates, *state, *weights)]
    (h,) = newton(step, half[0], (half[1],), (half[2],))
    assert h.dtype == torch.float32
    wide = [part.float() for part in half]
    assert_close((h,), loop(step, wide[0], (wide[1],), (wide[2],)), rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_the_loop() -> None:
    step, gates, state, weights = sample("gru", 2, 5)
    leaves = [gates.requires_grad_(), *(part.requires_grad_() for part in (*state, *weights))]
    second = []
    for solve in (newton, loop):
        (first,) = torch.autograd.grad(
            solve(step, gates, state, weights)[0].square().sum(), gates, create_graph=True
        )
        second.append(torch.autograd.grad(first.square().sum(), leaves))
    assert_close(*second)


def test_function_transforms_go_through_the_loop() -> None:
    step, gates, state, weights = sample("lstm", 2, 6)
    gradient = torch.func.grad(lambda gates: newton(step, gates, state, weights)[1].sum())(gates)
    gates.requires_grad_()
    assert_close(gradient, torch.autograd.grad(newton(step, gates, state, weights)[1].sum(), gates)[0])


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (2, 7, 3, 4), (2, 101, 2, 3), (0, 3, 2, 2)])
@pytest.mark.parametrize("scan", [block_scan, block_scan_chunked])
def test_block_scan_equals_its_definition(scan, shape) -> None:  # noqa: ANN001
    batch, time, n, width = shape
    a = torch.randn(batch, time, n, n, width, dtype=torch.float64) * 0.6
    x = torch.randn(batch, time, n, width, dtype=torch.float64, requires_grad=True)
    expected = block_scan_ref(a, x)
    strided = a.transpose(0, 1).contiguous().transpose(0, 1)
    assert_close(scan(strided, x.detach()), expected)
    if scan is block_scan:
        grad = torch.randn_like(expected)
        assert_close(scan(a, grad, reverse=True), torch.autograd.grad(expected, x, grad)[0])
