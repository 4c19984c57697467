"""The GPU kernels on a CPU, in triton's interpreter: a process of its own, since it must be chosen first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PRELUDE = """
import torch
from torch.testing import assert_close
torch.manual_seed(0)

def close(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=tolerance, atol=tolerance * (1 + b.abs().max().item()))
"""


def interpreted(code: str, interpret: str = "1") -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code + "\nprint('equal')"],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": interpret},
        cwd=Path(__file__).parents[3],
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "equal\n"


LOOPS = """
import core
from core.kernels import gated_loop
from core.kernels.gated_loop import gpu as gated_loop_triton

def run(loop, unit, x, state):
    leaves = [x, *state, *unit.parameters()]
    inputs = [x, *unit.input_weights(), *state, *unit.weights()]
    y, final = loop(unit.cell, len(state), inputs)
    weights = [torch.linspace(-1, 1, part.numel()).view(part.shape) for part in (y, *final)]
    loss = sum((part * weight).sum() for part, weight in zip((y, *final), weights))
    return (y, *final), torch.autograd.grad(loss, leaves)

def plain(cell, states, inputs):
    return gated_loop.plain_loop(cell, *inputs[:3], tuple(inputs[3:3 + states]), tuple(inputs[3 + states:]))

for name, options in (("lstm", {}), ("gru", {}), ("gru", {"bias": False}), ("gru", {"update": "write"})):
    for batch, time, width, hidden in ((1, 1, 3, 5), (3, 6, 4, 16), (18, 3, 5, 40), (2, 2, 3, 128)):
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
"""


def test_the_fused_lstm_and_gru_equal_the_plain_loop() -> None:
    interpreted(LOOPS)


OTHERS = """
import core
from core.kernels.gated_loop import gpu as twin
for name, options in (("lstm", {"peephole": True}), ("lstm", {"coupled": True}), ("lstm", {"projection": 2}),
                      ("gru", {"reset": "before"}), ("mgu", {})):
    unit = core.build(name, 3, 4, **options)
    assert twin.fused_kind(unit.cell, unit.weights()) is None
    x = torch.randn(2, 5, 3)
    state = unit.initial_state(x)
    state = state if isinstance(state, tuple) else (state,)
    y, _ = twin.compiled_loop(unit.cell, len(state), [x, *unit.input_weights(), *state, *unit.weights()])
    close([y], [unit(x)[0]])
"""


def test_other_cells_take_the_plain_loop() -> None:
    interpreted(OTHERS)


SECOND = """
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
"""


def test_second_derivatives_of_the_fused_loops_go_through_the_definition() -> None:
    interpreted(SECOND)


BLOCKS = """
from core.kernels.block_scan.definition import block_scan_ref
from core.kernels.block_scan.gpu import forward
for batch, time, width in ((1, 1, 1), (2, 7, 20), (2, 130, 3)):
    a = torch.randn(batch, time, 2, 2, width) * 0.6
    x = torch.randn(time, batch, 2, width).transpose(0, 1)
    close([forward(a, x)], [block_scan_ref(a, x)])
"""


def test_the_scan_of_pairs_equals_its_definition() -> None:
    interpreted(BLOCKS)


DECAY = """
from core.kernels.matrix_scan.gpu import forward
from core.kernels.matrix_scan import decay_scan
for batch, time, heads, key, value in ((1, 1, 1, 3, 2), (2, 70, 2, 5, 20), (1, 200, 3, 70, 66)):
    q, k = torch.randn(2, batch, time, heads, key).unbind()
    v = torch.randn(time, batch, heads, value).transpose(0, 1)
    decay = torch.nn.functional.logsigmoid(torch.randn(batch, time, heads) * 3)
    state = torch.randn(batch, heads, key, value)
    close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))
    if time > 1:  # resets, in the middle of a chunk and at its beginning
        decay[0, [5, 64]] = -torch.inf
        close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))
"""


def test_the_chunked_decay_equals_the_one_of_the_cpu() -> None:
    interpreted(DECAY)


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from core.kernels.block_scan import gpu as blocks
from core.kernels.gated_loop import gpu as loops
from core.kernels.linear_scan import gpu as linear
from core.kernels.matrix_scan import gpu as decay

NUMBERS = {"batch", "time", "hidden", "heads", "keys", "values", "chunks", "width",
           "a_row", "a_step", "x_row", "x_step", "g_row", "g_step"}

def shared_memory(kernel, sizes):
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages") if name in sizes}
    names = kernel.arg_names
    types = {name: "i32" if name in NUMBERS else "*fp32" for name in names}
    types.update(dict.fromkeys(sizes, "constexpr"))
    source = ASTSource(kernel, types, {(names.index(name),): size for name, size in sizes.items()})
    return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).metadata.shared

widest = loops.WIDEST
cases = [(kernel, loops.tiles(widest)) for kernel in
         (loops.lstm_forward, loops.lstm_backward, loops.gru_forward, loops.gru_backward)]
state = {"L": decay.CHUNK, "BV": decay.SIDE, **decay.OPTIONS}
cases += [(decay.carry_states, {**state, "BK": decay.SIDE}), (decay.read_chunks, {**state, "BK": decay.READ})]
cases += [(blocks.pairs, {"BT": blocks.TIME, "BD": blocks.CHANNELS})]
tile = {"BT": linear.TIME, "BD": linear.FEATURES}
cases += [(linear.forward_real, dict(tile)), (linear.backward_real, dict(tile))]
for kernel, sizes in cases:
    used = shared_memory(kernel, sizes)
    assert used <= 96 * 1024, (kernel.__name__, used)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_and_fit_into_its_shared_memory() -> None:
    interpreted(COMPILED, interpret="0")
