"""The GPU kernels on a CPU: their numbers in triton's interpreter, and whether they compile for a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def in_a_process(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
        timeout=600,
    )


def test_every_kernel_for_a_gpu_equals_its_definition() -> None:
    done = in_a_process("-m", "tests.core.kernels.interpreted", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    assert all(line.endswith(" equal") for line in lines), done.stdout


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from core.kernels.block_scan import gpu as blocks
from core.kernels.linear_scan import gpu as linear
from core.kernels.matrix_scan import gpu as decay

NUMBERS = {"batch", "time", "hidden", "heads", "keys", "values", "chunks", "size", "width",
           "a_row", "a_step", "x_row", "x_step", "g_row", "g_step"}

def shared_memory(kernel, sizes):
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages") if name in sizes}
    names = kernel.arg_names
    types = {name: "i32" if name in NUMBERS else "*fp32" for name in names}
    types.update(dict.fromkeys(sizes, "constexpr"))
    source = ASTSource(kernel, types, {(names.index(name),): size for name, size in sizes.items()})
    return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).metadata.shared

state = {"L": decay.CHUNK, "BV": decay.SIDE, **decay.OPTIONS}
cases = [(decay.write_chunks, {**state, "BK": decay.SIDE}), (decay.read_chunks, {**state, "BK": decay.READ})]
cases += [(decay.carry_states, {"BLOCK": decay.CARRIED})]
cases += [(blocks.pairs, {"BT": blocks.TIME, "BD": blocks.CHANNELS})]
tile = {"BT": linear.TIME, "BD": linear.FEATURES}
cases += [(linear.forward_real, {**tile, "BT": linear.LONG}), (linear.backward_real, dict(tile))]
for kernel, sizes in cases:
    used = shared_memory(kernel, sizes)
    assert used <= 96 * 1024, (kernel.__name__, used)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_and_fit_into_its_shared_memory() -> None:
    done = in_a_process("-c", COMPILED, TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr
