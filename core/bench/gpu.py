"""What the kernels cost on a GPU, beside the memory's bandwidth, cuDNN and the plain loop.

Without CUDA there is nothing to measure and the list is empty.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.bench.runner import Case

Pair = tuple[Callable[[], Any], Callable[[], Any]]
BATCH, TIME = 32, 512


def cases() -> list[Case]:
    """Scan, loops of LSTM and GRU, chunked decay, Newton's method; empty where there is no GPU."""
    if not torch.cuda.is_available():
        return []
    found = [
        # the copy moves two thirds of the scan's bytes: 80 % of its bandwidth is 1.5 / 0.8 of its time
        # in a captured graph, where the time of Python that starts a kernel does not count
        Case("gpu linear scan, captured", "B8 T4096 D512 float32", captured_scan, "copy", target=1.875),
        Case("gpu linear scan forward", "B8 T4096 D512 float32", scan, "copy"),
        Case("gpu decay forward", "B4 T4096 4x64 float32", partial(decay, 4, 4096), "tensor code"),
    ]
    for name in ("lstm", "gru"):
        for width in (64, 256):
            sizes = f"B{BATCH} T{TIME} D{width} float32"
            for peer, target in (("cuDNN", 1.25), ("plain loop", 1.0)):
                for what, training in (("forward", False), ("f+b", True)):
                    make = partial(loop, name, width, peer, training)
                    repeats = 15 if peer == "cuDNN" else 5  # a plain loop takes half a second
                    found.append(Case(f"gpu {name} {what}", sizes, make, peer, target, repeats=repeats))
    for time in (512, 2048, 8192):
        sizes = f"B4 T{time} D128 float32"
        repeats = 15 if time <= 2048 else 5
        found.append(
            Case("gpu newton para_gru forward", sizes, partial(newton, time), "sequential", repeats=repeats)
        )
    return found


def scan() -> Pair:
    from core.kernels.linear_scan import linear_scan

    a, x = torch.rand(2, 8, 4096, 512, device="cuda").unbind()
    out = torch.empty_like(x)
    return lambda: linear_scan(a, x), lambda: out.copy_(x)


def captured_scan() -> Pair:
    ours, other = map(captured, scan())
    return ours, other


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call as a graph of CUDA, to be replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is compiled or chosen at the first call
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def decay(batch: int, time: int) -> Pair:
    from core.kernels.matrix_scan import decay_scan, gpu

    q, k, v = torch.randn(3, batch, time, 4, 64, device="cuda").unbind()
    log_decay = nn.functional.logsigmoid(torch.randn(batch, time, 4, device="cuda") + 3)
    state = torch.zeros(batch, 4, 64, 64, device="cuda")
    given = q, k, v, log_decay, state
    return lambda: gpu.forward(*given), lambda: decay_scan(*given)


def loop(name: str, width: int, peer: str, training: bool) -> Pair:
    from core import build
    from core.kernels.gated_loop import plain_loop
    from core.kernels.gated_loop.gpu import precise

    unit = build(name, width).cuda()
    library = (nn.LSTM if name == "lstm" else nn.GRU)(width, width, batch_first=True).cuda()
    x = torch.randn(BATCH, TIME, width, device="cuda")

    def other() -> Tensor:
        if peer == "cuDNN":
            return library(x)[0]
        start = unit.initial_state(x)
        state = start if isinstance(start, tuple) else (start,)
        matrix, bias = unit.input_weights()
        return plain_loop(unit.cell, x, matrix, bias, state, unit.weights())[0]

    def measured(call: Callable[[], Tensor], module: nn.Module) -> Callable[[], Any]:
        def once() -> Any:
            with precise():  # the library's own layer would take TF32
                y = call()
                return torch.autograd.grad(y.sum(), list(module.parameters())) if training else y

        return once if training else torch.no_grad()(once)

    return measured(lambda: unit(x)[0], unit), measured(other, library if peer == "cuDNN" else unit)


def newton(time: int) -> Pair:
    from core import build

    unit = build("para_gru", 128).cuda()
    x = torch.randn(4, time, 128, device="cuda")
    run = torch.no_grad()(unit.forward)
    return lambda: run(x, None, "newton"), lambda: run(x, None, "sequential")
