"""Chunkwise matrix-state recurrences against their definition, one token after another."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from core.kernels.matrix_scan import decay_scan, decay_step, delta_scan, delta_step
from core.kernels.matrix_scan.definition import decay_scan_ref, delta_scan_ref

Inputs = dict[str, Tensor]
decays = pytest.mark.parametrize("decay", ["none", "head", "key"])
HEADS, KEY, VALUE = 2, 6, 5


def inputs(time: int, decay: str, *, batch: int = 2, dtype: torch.dtype = torch.float64) -> Inputs:
    """Random q, k, v, state and, unless `decay` is none, log-decays per head or per key channel."""
    generator = torch.Generator().manual_seed(time)
    sizes = {
        "q": (batch, time, HEADS, KEY),
        "k": (batch, time, HEADS, KEY),
        "v": (batch, time, HEADS, VALUE),
        "state": (batch, HEADS, KEY, VALUE),
    }
    made = {name: torch.randn(size, generator=generator, dtype=dtype) for name, size in sizes.items()}
    if decay != "none":
        size = sizes["k"] if decay == "key" else sizes["k"][:-1]
        made["log_decay"] = -torch.rand(size, generator=generator, dtype=dtype)
    return made


def delta_inputs(time: int, decay: str, beta: str = "head", **options: torch.dtype) -> Inputs:
    """As `inputs`, with keys of length one and beta in (0, 2), per head or per value channel."""
    made = inputs(time, decay, **options)
    made["k"] = F.normalize(made["k"], dim=-1)
    size = made["v"].shape if beta == "value" else made["v"].shape[:-1]
    made["beta"] = 2 * torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=made["v"].dtype)
    return made


def results(scan: partial, given: Inputs) -> list[Tensor]:
    """Output, final state, and the gradient of each input under a fixed random projection."""
    leaves = {name: part.clone().requires_grad_() for name, part in given.items()}
    o, end = scan(**leaves)
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in (o, end)]
    loss = (o * weights[0]).sum() + (end * weights[1]).sum()
    return [o, end, *torch.autograd.grad(loss, list(leaves.values()))]


def same(scan: partial, plain: partial, given: Inputs, tolerance: float = 1e-12) -> None:
    for ours, expected in zip(results(scan, given), results(plain, given), strict=True):
        scale = 1 + expected.abs().max().item()
        assert_close(ours, expected, rtol=0, atol=tolerance * scale)


@decays
@pytest.mark.parametrize("time", [1, 2, 7, 64, 83])
def test_decay_in_chunks_equals_the_loop(time: int, decay: str) -> None:
    for chunk in (1, 16, 64):
        same(partial(decay_scan, chunk=chunk), partial(decay_scan_ref), inputs(time, decay))


@decays
def test_reading_before_the_update_equals_the_loop(decay: str) -> None:
    given = inputs(37, decay)
    for bonus in (torch.randn(HEADS, KEY).double(), torch.randn(2, HEADS, KEY).double()):
        given["bonus"] = bonus
        same(partial(decay_scan, chunk=16), partial(decay_scan_ref), given)


@decays
@pytest.mark.parametrize("beta", ["head", "value"])
@pytest.mark.parametrize("time", [1, 7, 64, 83])
def test_delta_rule_in_chunks_equals_the_loop(time: int, beta: str, decay: str) -> None:
    for chunk in (16, 64):
        same(partial(delta_scan, chunk=chunk), partial(delta_scan_ref), delta_inputs(time, decay, beta))


@pytest.mark.parametrize("decay", ["head", "key"])
@pytest.mark.parametrize("strength", [0.0, 1e-3, 5.0, 50.0, 1e4])
def test_any_strength_of_decay_is_right_with_resets_among_it(decay: str, strength: float) -> None:
    for make, scan, plain in (
        (inputs, decay_scan, decay_scan_ref),
        (delta_inputs, delta_scan, delta_scan_ref),
    ):
        given = make(70, decay)
        log_decay = strength * given["log_decay"]
        log_decay[:, [0, 9, 31, 32, 63]] = -torch.inf
        given["log_decay"] = log_decay
        assert all(part.isfinite().all() for part in results(partial(scan), given))
        same(partial(scan), partial(plain), given)


@pytest.mark.parametrize("decay", ["head", "key"])
def test_strong_decay_in_single_precision_stays_near_double(decay: str) -> None:
    given = inputs(256, decay)
    given["log_decay"] *= torch.logspace(-4, 1.7, 256, dtype=torch.float64).view(
        256, *[1] * (given["log_decay"].ndim - 2)
    )
    single = {name: part.float() for name, part in given.items()}
    for ours, expected in zip(
        results(partial(decay_scan), single), results(partial(decay_scan_ref), given), strict=True
    ):
        assert_close(ours.double(), expected, rtol=0, atol=1e-5 * (1 + expected.abs().max().item()))


@pytest.mark.parametrize("decay", ["head", "key"])
def test_a_reset_equals_a_fresh_start(decay: str) -> None:
    for make, scan in ((inputs, decay_scan), (delta_inputs, delta_scan)):
        given = make(50, decay)
        given["log_decay"][:, 21] = -torch.inf
        o, end = scan(**given)
        later = {name: part[:, 21:] for name, part in given.items() if name != "state"}
        fresh, fresh_end = scan(**later)
        assert_close(o[:, 21:], fresh)
        assert_close(end, fresh_end)


@decays
def test_a_sequence_can_be_cut_anywhere(decay: str) -> None:
    for make, scan in ((inputs, decay_scan), (delta_inputs, delta_scan)):
        given = make(45, decay)
        o, end = scan(**given)
        sequences = {name: part for name, part in given.items() if name != "state"}
        for cut in (0, 1, 16, 33, 45):
            head, state = scan(
                **{name: part[:, :cut] for name, part in sequences.items()}, state=given["state"]
            )
            tail, final = scan(**{name: part[:, cut:] for name, part in sequences.items()}, state=state)
            assert_close(torch.cat([head, tail], 1), o)
            assert_close(final, end)


def test_no_state_is_zeros() -> None:
    given = delta_inputs(20, "head")
    state = given.pop("state")
    assert_close(delta_scan(**given), delta_scan(**given, state=torch.zeros_like(state)))
    del given["beta"]
    assert_close(decay_scan(**given), decay_scan(**given, state=torch.zeros_like(state)))


def test_beta_zero_keeps_the_state_and_beta_one_stores_the_value() -> None:
    given = delta_inputs(20, "none")
    given["beta"] = torch.zeros_like(given["beta"])
    assert_close(delta_scan(**given)[1], given["state"])
    given["beta"], given["q"] = torch.ones_like(given["beta"]), given["k"]
    assert_close(delta_scan(**given)[0], given["v"])


def test_a_decay_per_head_equals_the_same_decay_in_every_channel() -> None:
    given = delta_inputs(40, "head")
    wide = given | {"log_decay": given["log_decay"].unsqueeze(-1).expand_as(given["k"])}
    assert_close(delta_scan(**wide), delta_scan(**given))
    del given["beta"], wide["beta"]
    assert_close(decay_scan(**wide), decay_scan(**given))


@decays
def test_first_and_second_derivatives_are_right(decay: str) -> None:
    for make, scan in ((inputs, decay_scan), (delta_inputs, delta_scan)):
        given = make(5, decay, batch=1)
        leaves = [part.requires_grad_() for part in given.values()]

        def call(*parts: Tensor, names: tuple[str, ...] = tuple(given), scan=scan) -> tuple[Tensor, Tensor]:  # noqa: ANN001
            return scan(**dict(zip(names, parts, strict=True)), chunk=4)

        assert gradcheck(call, leaves)
        assert gradgradcheck(call, leaves, fast_mode=True)


def test_forward_mode_derivatives_equal_backward_ones() -> None:
    given = inputs(9, "key")
    log_decay = given.pop("log_decay")
    direction = torch.randn(log_decay.shape, generator=torch.Generator().manual_seed(4)).double()

    def total(log_decay: Tensor) -> Tensor:
        return decay_scan(**given, log_decay=log_decay, chunk=4)[0].square().sum()

    _, forward = torch.func.jvp(total, (log_decay,), (direction,))
    assert_close(forward, (torch.func.grad(total)(log_decay) * direction).sum())


def test_steps_equal_the_scan() -> None:
    given = delta_inputs(6, "key")
    o, end = delta_scan(**given)
    state = given.pop("state")
    for t in range(6):
        y, state = delta_step(**{name: part[:, t] for name, part in given.items()}, state=state)
        assert_close(y, o[:, t])
    assert_close(state, end)


@decays
def test_half_precision_keeps_its_type_and_a_single_precision_state(decay: str) -> None:
    for make, scan, step in ((inputs, decay_scan, decay_step), (delta_inputs, delta_scan, delta_step)):
        given = make(100, decay, dtype=torch.float32)
        half = {name: part.bfloat16() for name, part in given.items()}
        expected, _ = scan(**{name: part.float() for name, part in half.items()})
        for o, end in (scan(**half), autocast(scan, half)):
            assert (o.dtype, end.dtype) == (torch.bfloat16, torch.float32)
            assert_close(o, expected.bfloat16())
        token = {name: part[:, 0] for name, part in half.items() if name not in ("state", "log_decay")}
        log_decay = half["log_decay"][:, 0] if "log_decay" in half else None
        y, state = autocast(step, token | {"state": half["state"].float(), "log_decay": log_decay})
        assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
        assert_close(y, expected[:, 0].bfloat16())


def autocast(function, given: Inputs) -> tuple[Tensor, Tensor]:  # noqa: ANN001
    with torch.autocast("cpu", torch.bfloat16):
        return function(**given)


def test_strided_input_is_fine() -> None:
    given = delta_inputs(20, "key")
    turned = {name: part.transpose(0, 1).contiguous().transpose(0, 1) for name, part in given.items()}
    assert_close(delta_scan(**turned), delta_scan(**given))


def test_no_tokens_leave_the_state() -> None:
    given = delta_inputs(0, "head")
    o, end = delta_scan(**given)
    assert o.shape == (2, 0, HEADS, VALUE)
    assert_close(end, given["state"])


def test_what_does_not_fit_is_named() -> None:
    given = delta_inputs(4, "head")
    beta = given.pop("beta")
    with pytest.raises(ValueError, match=r"q and k of shape \(B, T, h, K\)"):
        decay_scan(given["q"][:, :3], given["k"], given["v"])
    with pytest.raises(ValueError, match=r"log_decay of shape \(2, 4, 2\) or \(2, 4, 2, 6\), got \(2, 4\)"):
        decay_scan(**given | {"log_decay": torch.zeros(2, 4)})
    with pytest.raises(ValueError, match=r"state of shape \(2, 2, 6, 5\), got \(2, 2, 5, 6\)"):
        decay_scan(**given | {"state": given["state"].mT})
    with pytest.raises(ValueError, match="power of two, got 24"):
        decay_scan(**given, chunk=24)
    with pytest.raises(ValueError, match=r"bonus that broadcasts to \(2, 2, 6\), got \(5,\)"):
        decay_scan(**given, bonus=torch.zeros(5))
    with pytest.raises(ValueError, match=r"beta of shape \(2, 4, 2\) or \(2, 4, 2, 5\), got \(2, 4\)"):
        delta_scan(**given, beta=beta[..., 0])


def test_a_batch_of_no_rows_is_scanned() -> None:
    q, k, v = (torch.zeros(0, 5, 2, 3, requires_grad=True) for _ in range(3))
    for o, state in (decay_scan(q, k, v, torch.zeros(0, 5, 2)), delta_scan(q, k, v, torch.zeros(0, 5, 2))):
        assert tuple(o.shape) == (0, 5, 2, 3)
        assert tuple(state.shape) == (0, 2, 3, 3)
        o.sum().backward()
