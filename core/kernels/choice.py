"""The one place that decides which version of a kernel runs: definition, tensor code, the CPU's, the GPU's.

A kernel with several versions is a folder; `cpu.py` and `gpu.py` in it are the fast ones and need numba and
triton. Where a version cannot run, the door takes the next one, which gives the same numbers.
"""

from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

VERSIONS = {"cpu": "cpu", "cuda": "gpu"}
"""Type of a device -> file of a kernel's folder."""


@cache
def version(kernel: str, device: str) -> ModuleType | None:
    """The version of a kernel (name of its package) for a type of device; None where there is none.

    Loaded on first use: numba and triton take their time.
    """
    if device not in VERSIONS:
        return None
    try:
        return import_module(f"{kernel}.{VERSIONS[device]}")
    except ImportError:  # numba or triton is not installed
        return None


def beyond_operators(*inputs: Tensor) -> bool:
    """Whether forward-mode derivatives or torch.func are at work, which custom operators refuse."""
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    # asking each tensor for its tangent costs more than a step, so ask first whether there can be one
    if forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(part).tangent is not None for part in inputs)


RECORDING = ContextVar("recording", default=False)
"""Set while `core.streaming` writes down the operators of a step."""


def recording() -> bool:
    """Whether a graph is being recorded, which must hold tensor code or operators, no foreign calls."""
    if torch.compiler.is_compiling():
        return True
    return torch.jit.is_tracing() or RECORDING.get()  # pyright: ignore[reportPrivateImportUsage]


def wants_gradients(*inputs: Tensor) -> bool:
    """Whether a gradient of any of them is wanted."""
    return torch.is_grad_enabled() and any(part.requires_grad for part in inputs)


def memory_on(inputs: list[Any]) -> str | None:
    """The type of device that holds all tensors (None among them is skipped), if their memory may be read.

    It may not while a graph is recorded, under torch.func, or in forward mode.
    """
    if recording():
        return None
    on_cpu = inputs[0].is_cpu
    if not on_cpu and not inputs[0].is_cuda:
        return None
    for part in inputs:
        if part is not None and part.is_cpu is not on_cpu:
            return None
    if torch._C._are_functorch_transforms_active():
        return None
    if forward_ad._current_level >= 0 and beyond_operators(*(part for part in inputs if part is not None)):
        return None
    return "cpu" if on_cpu else "cuda"
