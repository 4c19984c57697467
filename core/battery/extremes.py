"""Promises beyond tame inputs: strong and broken tokens, half precision, lengths around a chunk."""

import copy
from collections.abc import Callable

import torch

from core.battery.subject import Subject, close, results, sample
from core.state import tensors


def strong_inputs_keep_modes_equal_and_gradients_finite(of: Subject) -> None:
    unit = of.make()
    for scale in (100.0, 1000.0):
        x = scale * sample(batch=2, time=5)
        expected, gradients = results(unit, x, "step", None)
        assert all(bool(part.isfinite().all()) for part in gradients), (
            f"a gradient is not finite at x {scale:g}"
        )
        for mode in unit.modes[1:]:
            found, others = results(unit, x, mode, None)
            close(found, expected, 1e-8)
            assert all(bool(part.isfinite().all()) for part in others), f"{mode}: not finite at x {scale:g}"


def a_broken_token_changes_nothing_before_it(of: Subject) -> None:
    """NaN, infinity, and in modes of products a number so large that they overflow."""
    unit = of.make(torch.float32)
    x, at = sample(batch=2, time=40, dtype=torch.float32), 37
    for mode in unit.modes[1:]:
        with torch.no_grad():
            clean = unit(x, None, mode)[0]
            for token in (torch.nan, torch.inf):
                broken = x.clone()
                broken[0, at] = token
                dirty = unit(broken, None, mode)[0]
                close(dirty[:, :at], clean[:, :at], 1e-5)
                close(dirty[1], clean[1], 1e-5)


def lengths_around_a_chunk_equal_steps(of: Subject) -> None:
    unit = of.make()
    x = sample(batch=1, time=129)
    with torch.no_grad():
        expected = unit(x, None, "sequential")[0]
        for mode in unit.modes[2:]:
            for time in (31, 33, 64, 65, 129):
                close(unit(x[:, :time], None, mode)[0], expected[:, :time], 1e-9)


def half_precision_trains(of: Subject) -> None:
    """Outputs and gradients are finite, states keep the type of the first one, under autocast and in half."""
    unit = of.make(torch.float32)
    x = sample(dtype=torch.float32).requires_grad_()
    types = [part.dtype for part in tensors(unit.initial_state(x))]
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(x.device.type, dtype):
            y, state = unit(x)
            token, after = unit.step(x[:, 0], state)
            for found in (state, after):
                kept = [part.dtype for part in tensors(found)]
                assert kept == types, f"under autocast the state of {types} became {kept}"
            loss = (y.float().square().sum() + token.float().square().sum()) / y.numel()
        found = torch.autograd.grad(loss, [x, *unit.parameters()], allow_unused=True)
        assert all(part is None or bool(part.isfinite().all()) for part in found), f"autocast {dtype}"
        half = copy.deepcopy(unit).to(dtype)
        low = x.detach().to(dtype).requires_grad_()
        y, _ = half(low)
        found = torch.autograd.grad(y.float().square().mean(), [low, *half.parameters()], allow_unused=True)
        assert all(part is None or bool(part.isfinite().all()) for part in found), f"a unit of {dtype}"


EXTREMES: tuple[Callable[[Subject], None], ...] = (
    strong_inputs_keep_modes_equal_and_gradients_finite,
    a_broken_token_changes_nothing_before_it,
    lengths_around_a_chunk_equal_steps,
    half_precision_trains,
)
