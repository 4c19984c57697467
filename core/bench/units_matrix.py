"""What chunks save over stepping for the matrix-state units, and what one streaming step costs.

Sequences: one row of 2048 tokens, 4 heads of 64, forward and backward. The kernels run against their plain
loop, the whole units against their own sequential mode; where the package `fla` is installed, the kernels
also run against its tensor-code references, which are what it offers on a CPU. Steps: one row at width 128,
without gradients.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.bench.runner import Case

UNITS = (
    "linear_attention",
    "retention",
    "gla",
    "hgrn2",
    "delta_net",
    "gated_delta_net",
    "delta_product",
)
TIME, HEADS, WIDTH = 2048, 4, 64
SIZES = f"B1 T{TIME} {HEADS} heads of {WIDTH} float32"
DECAYS = {"none": "without decay", "head": "decay per head", "key": "decay per key"}

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def cases() -> list[Case]:
    """Kernels and units against their loops, kernels against fla where it is installed, single steps."""
    chosen = []
    for decay, words in DECAYS.items():
        for kernel in ("decay", "delta"):
            name = f"{kernel} scan, {words}"
            chosen.append(
                Case(name, SIZES, partial(kernel_pair, kernel, decay), "plain loop", 0.1, repeats=3)
            )
    for kernel, decay, operator, function in fla_functions():
        make = partial(fla_pair, kernel, decay, operator, function)
        chosen.append(
            Case(f"{kernel} scan, {DECAYS[decay]}", SIZES, make, "fla in tensor code", 1.0, repeats=5)
        )
    for unit in UNITS:
        sizes = f"B1 T{TIME} H{HEADS * WIDTH} float32"
        chosen.append(Case(unit, sizes, partial(unit_pair, unit), "sequential mode", 0.1, repeats=3))
    chosen += [Case(f"{unit} step", "B1 H128 float32", partial(step, unit), limit_us=150) for unit in UNITS]
    return chosen


def inputs(kernel: str, decay: str) -> dict[str, Tensor]:
    """Arguments of a kernel by name, leaves that want gradients."""
    generator = torch.Generator().manual_seed(0)
    size = (1, TIME, HEADS, WIDTH)
    given = {name: torch.randn(size, generator=generator) for name in ("q", "k", "v")}
    given["k"] = torch.nn.functional.normalize(given["k"], dim=-1)
    if kernel == "delta":
        given["beta"] = torch.rand(size[:-1], generator=generator)
    if decay != "none":
        given["log_decay"] = -0.1 * torch.rand(size if decay == "key" else size[:-1], generator=generator)
    return {name: part.requires_grad_() for name, part in given.items()}


def forward_backward(scan: Callable[..., Any], given: dict[str, Tensor]) -> Callable[[], Any]:
    leaves = list(given.values())

    def call() -> Any:
        o, *_ = scan(**given)
        return torch.autograd.grad(o, leaves, o.detach())

    return call


def kernel_pair(kernel: str, decay: str) -> Pair:
    from core.kernels import matrix_scan
    from core.kernels.matrix_scan import definition

    given = inputs(kernel, decay)
    ours, plain = getattr(matrix_scan, f"{kernel}_scan"), getattr(definition, f"{kernel}_scan_ref")
    return forward_backward(ours, given), forward_backward(plain, given)


def fla_functions() -> Iterator[tuple[str, str, str, str]]:
    """Kernel, decay, and the module and function of fla that compute the same."""
    if find_spec("fla") is not None:
        yield "decay", "head", "simple_gla", "naive_chunk_simple_gla"
        yield "delta", "head", "gated_delta_rule", "naive_chunk_gated_delta_rule"
        yield "delta", "key", "kda", "naive_chunk_kda"


def fla_pair(kernel: str, decay: str, operator: str, function: str) -> Pair:
    from core.kernels import matrix_scan

    package = find_spec("fla")
    folder = Path(package.origin).parent if package and package.origin else Path()
    # by its file: importing the package asks for Triton and a GPU
    spec = spec_from_file_location(f"fla_{operator}", folder / "ops" / operator / "naive.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"this version of fla has no {operator}/naive.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    given = inputs(kernel, decay)
    theirs = {"g" if name == "log_decay" else name: part for name, part in given.items()}
    ours = forward_backward(getattr(matrix_scan, f"{kernel}_scan"), given)
    return ours, forward_backward(getattr(module, function), theirs)


def unit_pair(name: str) -> Pair:
    import core

    unit = core.build(name, HEADS * WIDTH)
    x = torch.randn(1, TIME, HEADS * WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    leaves = [x, *unit.parameters()]

    def train(mode: str) -> Any:
        y, _ = unit(x, None, mode)
        return torch.autograd.grad(y, leaves, y.detach())

    return partial(train, "chunkwise"), partial(train, "sequential")


def step(name: str) -> tuple[Callable[[], Any], None]:
    import core
    from core.bench.steady import steady_step

    unit = core.build(name, 128)
    x = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    _, state = unit(x.unsqueeze(1))
    return steady_step(unit, x, state), None
