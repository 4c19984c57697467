"""The selective scan equals its definition on outputs, final state and every gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.kernels.selective_scan import scan_by_pieces, selective_scan, selective_step
from core.kernels.selective_scan.definition import selective_scan_loop

BATCH, CHANNELS, STATES = 3, 6, 4
Scan = Callable[..., tuple[Tensor, Tensor]]


def fused(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return selective_scan(u, delta, A, B, C, state=state)


def inputs(time: int, groups: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """u, delta, A, B, C, state; 0 groups means constant over time."""
    real = torch.float64
    A = -torch.rand(CHANNELS, STATES, dtype=real).to(dtype)
    A = A + 1j * torch.randn(CHANNELS, STATES, dtype=real) if dtype.is_complex else A

    def part(count: int) -> Tensor:
        shape = (BATCH, time, count, STATES) if count else (CHANNELS, STATES)
        return torch.randn(shape, dtype=dtype)

    u, delta = torch.randn(2, BATCH, time, CHANNELS, dtype=real)
    state = torch.randn(BATCH, CHANNELS, STATES, dtype=dtype)
    return [u, delta, A, part(groups[0]), part(groups[1]), state]


def outcome(scan: Scan, arguments: list[Tensor]) -> list[Tensor]:
    """Output, final state, and the gradients of a random projection of both."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    y, end = scan(*leaves)
    flat = torch.view_as_real(end) if end.is_complex() else end
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (part * torch.randn(part.shape, dtype=part.dtype, generator=generator)).sum() for part in (y, flat)
    )
    return [y, end, *torch.autograd.grad(loss, leaves)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("groups", [(1, 1), (2, 2), (0, 0), (0, 2), (3, 6)], ids=str)
@pytest.mark.parametrize("time", [1, 16, 37])
def test_the_fused_scan_equals_its_definition(dtype: torch.dtype, groups: tuple[int, int], time: int) -> None:
    arguments = inputs(time, groups, dtype)
    expected = outcome(selective_scan_loop, arguments)
    for ours, theirs in zip(outcome(fused, arguments), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("groups", [(2, 2), (0, 1)], ids=str)
def test_the_pieces_for_other_devices_equal_the_definition(
    dtype: torch.dtype, groups: tuple[int, int]
) -> None:
    arguments = inputs(150, groups, dtype)
    expected = outcome(selective_scan_loop, arguments)
    for ours, theirs in zip(outcome(scan_by_pieces, arguments), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_many_channels_are_computed_in_blocks() -> None:
    u, delta = torch.randn(2, 20, 300, dtype=torch.float64), torch.rand(2, 20, 300, dtype=torch.float64)
    A, B, C = -torch.rand(300, 3, dtype=torch.float64), *torch.randn(2, 2, 20, 2, 3, dtype=torch.float64)
    state = torch.randn(2, 300, 3, dtype=torch.float64)
    arguments = [u, delta, A, B, C, state]
    for ours, theirs in zip(outcome(fused, arguments), outcome(selective_scan_loop, arguments), strict=True):
        assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_threads_sum_shared_gradients_once() -> None:
    arguments = inputs(2000, (1, 0))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parallel = outcome(fused, arguments)
    finally:
        torch.set_num_threads(threads)
    for ours, theirs in zip(parallel, outcome(selective_scan_loop, arguments), strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_skip_and_gate_follow_the_equation() -> None:
    u, delta, A, B, C, state = inputs(9, (1, 1))
    D, z = torch.randn(CHANNELS, dtype=torch.float64), torch.randn_like(u)
    plain, _ = selective_scan(u, delta, A, B, C, state=state)
    y, _ = selective_scan(u, delta, A, B, C, D, z, state)
    assert_close(y, (plain + D * u) * z * z.sigmoid())


def test_a_sequence_can_be_cut_anywhere() -> None:
    u, delta, A, B, C, state = inputs(40, (2, 2))
    whole, end = selective_scan(u, delta, A, B, C, state=state)
    for cut in (0, 1, 17, 40):
        head, middle = selective_scan(u[:, :cut], delta[:, :cut], A, B[:, :cut], C[:, :cut], state=state)
        tail, final = selective_scan(u[:, cut:], delta[:, cut:], A, B[:, cut:], C[:, cut:], state=middle)
        assert_close(torch.cat([head, tail], 1), whole)
        assert_close(final, end)


@pytest.mark.parametrize("groups", [1, 2], ids=["shared", "grouped"])
def test_one_step_with_and_without_gradients_equals_a_sequence_of_one(groups: int) -> None:
    u, delta, A, B, C, state = inputs(1, (groups, groups))
    y, end = selective_scan(u, delta, A, B, C, state=state)
    for tracked in (False, True):
        arguments = [u[:, 0].clone().requires_grad_(tracked), delta[:, 0], A, B[:, 0], C[:, 0], state]
        one, after = selective_step(*arguments)
        assert one.requires_grad == tracked
        assert_close(one, y[:, 0])
        assert_close(after, end)


def test_single_precision_is_near_double() -> None:
    arguments = inputs(500, (1, 1))
    y, end = fused(*arguments)
    single, last = fused(*(argument.float() for argument in arguments))
    assert_close(single.double(), y, rtol=1e-5, atol=1e-5)
    assert_close(last.double(), end, rtol=1e-5, atol=1e-5)


def test_half_precision_keeps_its_state_in_single() -> None:
    arguments = inputs(50, (1, 1), torch.float32)
    half = [argument.bfloat16() for argument in arguments]
    y, end = fused(*half)
    expected, last = fused(*(argument.float() for argument in half))
    assert y.dtype == torch.bfloat16
    assert end.dtype == torch.float32
    assert_close(y, expected.bfloat16())
    assert_close(end, last)


def test_large_steps_forget_without_overflow() -> None:
    u, delta, A, B, C, state = inputs(5, (1, 1))
    y, end = selective_scan(u, delta * 1e6, A, B, C, state=state * 1e6)
    expected, last = selective_scan_loop(u, delta * 1e6, A, B, C, state * 1e6)
    assert_close(y, expected)
    assert_close(end, last)


def test_a_poisoned_row_poisons_only_itself() -> None:
    u, delta, A, B, C, state = inputs(20, (1, 1))
    delta[1, 4, 2] = float("nan")
    y, end = selective_scan(u, delta, A, B, C, state=state)
    assert y[[0, 2]].isfinite().all()
    assert y[1, 4:, 2].isnan().all()
    assert end[1, 2].isnan().all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_the_operator_keeps_the_rules_of_torch() -> None:
    from core.kernels.selective_scan import fused as operator

    arguments = [argument.requires_grad_() for argument in inputs(5, (2, 2))]
    torch.library.opcheck(operator, (*arguments, True))


def test_misfits_are_named() -> None:
    u, delta, A, B, C, state = inputs(5, (1, 1))
    with pytest.raises(ValueError, match="u and delta of one shape"):
        selective_scan(u, delta[:, :3], A, B, C)
    with pytest.raises(ValueError, match=r"A of shape \(6, N\)"):
        selective_scan(u, delta, A[:5], B, C)
    with pytest.raises(ValueError, match="expects B of shape"):
        selective_scan(u, delta, A, B[:, :3], C)
    with pytest.raises(ValueError, match="G dividing 6"):
        selective_scan(u, delta, A, B, C.repeat(1, 1, 4, 1))
    with pytest.raises(ValueError, match="groups of B and C do not nest"):
        selective_scan(u, delta, A, B.repeat(1, 1, 2, 1), C.repeat(1, 1, 3, 1))
    with pytest.raises(ValueError, match="expects a state of shape"):
        selective_scan(u, delta, A, B, C, state=state[:2])
