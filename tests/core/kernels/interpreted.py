"""The GPU kernels on a CPU, in triton's interpreter; a process of its own, since it must be chosen first.

Run by `test_triton_twins`, all parts in one process; shapes are the smallest that cross a tile on each axis.
"""

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close


def close(ours, theirs, tolerance=1e-5):  # noqa: ANN001, ANN201
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=tolerance, atol=tolerance * (1 + b.abs().max().item()))


def fused_loops() -> None:
    import core
    from core.kernels import gated_loop
    from core.kernels.gated_loop import gpu as gated_loop_triton

    def run(loop: Any, unit: Any, x: Tensor, state: Any) -> Any:
        leaves = [x, *state, *unit.parameters()]
        inputs = [x, *unit.input_weights(), *state, *unit.weights()]
        y, final = loop(unit.cell, len(state), inputs)
        weights = [torch.linspace(-1, 1, part.numel()).view(part.shape) for part in (y, *final)]
        loss = sum((part * weight).sum() for part, weight in zip((y, *final), weights, strict=True))
        return (y, *final), torch.autograd.grad(loss, leaves)

    def plain(cell: Any, states: int, inputs: Any) -> Any:
        return gated_loop.plain_loop(
            cell, *inputs[:3], tuple(inputs[3 : 3 + states]), tuple(inputs[3 + states :])
        )

    for name, options in (("lstm", {}), ("gru", {}), ("gru", {"bias": False}), ("gru", {"update": "write"})):
        for batch, time, width, hidden in ((1, 1, 3, 5), (18, 3, 5, 40), (2, 2, 3, 128)):
            unit = core.build(name, width, hidden, **options)
            x = torch.randn(time, batch, width).transpose(0, 1).requires_grad_()
            count = 2 if name == "lstm" else 1
            state = tuple(torch.randn(batch, hidden, requires_grad=True) for _ in range(count))
            assert gated_loop_triton.fused_kind(unit.cell, unit.weights()) == name
            ours, gradients = run(gated_loop_triton.compiled_loop, unit, x, state)
            theirs, expected = run(plain, unit, x, state)
            close(ours, theirs)
            close(gradients, expected)
            close([unit(x, state if count == 2 else state[0])[0]], ours[:1])


def other_cells() -> None:
    import core
    from core.kernels.gated_loop import gpu as twin

    for name, options in (
        ("lstm", {"peephole": True}),
        ("lstm", {"coupled": True}),
        ("lstm", {"projection": 2}),
        ("gru", {"reset": "before"}),
        ("mgu", {}),
    ):
        unit = core.build(name, 3, 4, **options)
        assert twin.fused_kind(unit.cell, unit.weights()) is None
        x = torch.randn(2, 5, 3)
        state = unit.initial_state(x)
        state = state if isinstance(state, tuple) else (state,)
        y, _ = twin.compiled_loop(unit.cell, len(state), [x, *unit.input_weights(), *state, *unit.weights()])
        close([y], [unit(x)[0]])


def second_derivatives() -> None:
    import core
    from core.kernels.gated_loop import gpu as twin

    for name in ("lstm", "gru"):
        unit = core.build(name, 3, 4)
        x = torch.randn(2, 4, 3, requires_grad=True)
        start = unit.initial_state(x)
        start = start if isinstance(start, tuple) else (start,)
        inputs = [x, *unit.input_weights(), *start, *unit.weights()]
        second = []
        for y in (twin.compiled_loop(unit.cell, len(start), inputs)[0], unit(x, None, "step")[0]):
            (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            second.append(torch.autograd.grad(first.square().sum(), [x, *unit.parameters()]))
        close(*second)


def scan_of_pairs() -> None:
    from core.kernels.block_scan.definition import block_scan_ref
    from core.kernels.block_scan.gpu import forward

    for batch, time, width in ((1, 1, 1), (2, 7, 20), (1, 66, 3)):
        a = torch.randn(batch, time, 2, 2, width) * 0.6
        x = torch.randn(time, batch, 2, width).transpose(0, 1)
        close([forward(a, x)], [block_scan_ref(a, x)])


def chunked_decay() -> None:
    from core.kernels.matrix_scan import decay_scan
    from core.kernels.matrix_scan.gpu import forward

    for batch, time, heads, key, value in ((1, 1, 1, 3, 2), (2, 70, 2, 5, 20), (1, 130, 1, 66, 66)):
        q, k = torch.randn(2, batch, time, heads, key).unbind()
        v = torch.randn(time, batch, heads, value).transpose(0, 1)
        decay = torch.nn.functional.logsigmoid(torch.randn(batch, time, heads) * 3)
        state = torch.randn(batch, heads, key, value)
        close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))
        if time > 1:  # resets, in the middle of a chunk and at its beginning
            decay[0, [5, 64]] = -torch.inf
            close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))


def linear_scan() -> None:
    from core.kernels.linear_scan import chunked as plain
    from core.kernels.linear_scan import gpu as fast

    for dtype in (torch.float32, torch.complex64):
        for batch, time, width in ((2, 1, 3), (2, 7, 40), (1, 130, 5), (0, 3, 2), (2, 0, 3)):
            a = torch.randn(batch, time, 2 * width, dtype=dtype).chunk(2, -1)[1] * 0.5
            x, h0 = torch.randn(batch, time, width, dtype=dtype), torch.randn(batch, width, dtype=dtype)
            grad = torch.randn(width, dtype=dtype).expand_as(x).conj()
            h = plain.forward(a, x, h0)
            torch.testing.assert_close(fast.forward(a, x, h0), h, rtol=1e-5, atol=1e-5)
            if time:
                theirs = plain.backward(a, h, h0, grad)
                torch.testing.assert_close(fast.backward(a, h, h0, grad), theirs, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    for part in (fused_loops, other_cells, second_derivatives, scan_of_pairs, chunked_decay, linear_scan):
        torch.manual_seed(0)
        try:
            part()
            print(part.__name__, "equal")
        except Exception:
            print(part.__name__, traceback.format_exc())
