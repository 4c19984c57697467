"""The loop that gated cells share: one input projection, then one step after another.

A cell states its step on projected input, with any number of states and weights:

    y_t, state_t = step(W x_t + b, state_{t-1}, weights)

`plain_loop` is the definition. `gated_loop` computes the same on a CPU in compiled code, if the cell also
names a module with the functions

    forward(gates, state, weights, options, ends)                -> y, state, kept
    backward(kept, weights, options, ends, dy, dstate, dweights) -> dgates

on numpy arrays, time first: gates (T, B, G) come in projected (forward may overwrite them), y is (T, B, P),
states are (B, .) and contiguous, `ends` (B,) holds the falling lengths of the rows, the first of them T (see
`core.kernels.gated_loop_rows`); backward changes dstate from that of the last state to that of the first and
adds to dweights, so a long sequence is worked in pieces. Matrices (N, K) among the weights come ready for
`core.kernels.gated_loop_matmul.multiply`: in forward for a @ W^T, in backward for a @ W. The projection of
all tokens and its gradients, types, layouts and long sequences are the business of
`core.kernels.gated_loop_cpu`.

Second derivatives go through the plain loop. Forward-mode derivatives, functorch transforms, tracing and
export use the plain loop altogether, and so do devices other than the CPU, except that the plain LSTM and GRU
have fused kernels on CUDA (`core.kernels.gated_loop_triton`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from core.parts.lengths import still

States = tuple[Tensor, ...]
Weights = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Cell:
    """What a gated cell states about itself."""

    step: Callable[[Tensor, States, Weights], tuple[Tensor, States]]
    """The definition: gates (B, G), states, weights -> y (B, P), states; plain differentiable torch."""
    kernel: str | None = None
    """Module of the compiled forward and backward; None: the cell runs on the plain loop."""
    options: tuple[Any, ...] = ()
    """What the compiled functions get as options."""


def plain_loop(
    cell: Cell,
    x: Tensor,
    weight_ih: Tensor,
    bias: Tensor | None,
    state: States,
    weights: Weights,
    lengths: Tensor | None = None,
) -> tuple[Tensor, States]:
    """The definition. x (B, T, I), T >= 1 -> y (B, T, P), final states.

    With lengths (B,) a row's states stand still after its last token, and y is zero there, whatever x is.
    """
    outputs = []
    x = still(x, lengths)
    for t, gates in enumerate(F.linear(x, weight_ih, bias).unbind(1)):
        y, after = cell.step(gates, state, weights)
        if lengths is not None:
            goes_on = (lengths > t).unsqueeze(1)
            y = y.masked_fill(~goes_on, 0)
            after = tuple(torch.where(goes_on, new, old) for new, old in zip(after, state, strict=True))
        state = after
        outputs.append(y)
    return torch.stack(outputs, 1), state


def gated_loop(
    cell: Cell,
    x: Tensor,
    weight_ih: Tensor,
    bias: Tensor | None,
    state: States,
    weights: Weights,
    lengths: Tensor | None = None,
) -> tuple[Tensor, States]:
    """The same as `plain_loop`, compiled where that is possible: then a row that ended costs nothing."""
    inputs = [x, weight_ih, bias, *state, *weights]
    kernels = (compiled if x.is_cpu else fused)() if runs_compiled(cell, inputs) else None
    if kernels is None:
        return plain_loop(cell, x, weight_ih, bias, state, weights, lengths)
    double = any(part is not None and part.dtype == torch.float64 for part in inputs)
    dtype = torch.float64 if double else torch.float32
    cast = [part if part is None else part.to(dtype) for part in inputs]
    y, final = kernels.compiled_loop(cell, len(state), cast, lengths)
    return y.to(x.dtype), tuple(part.to(x.dtype) for part in final)


def gated_step(
    cell: Cell, x: Tensor, weight_ih: Tensor, bias: Tensor | None, state: States, weights: Weights
) -> tuple[Tensor, States]:
    """One token, x (B, I) -> y (B, P), states: compiled where no gradient is wanted, else the plain step."""
    if not torch.is_grad_enabled():
        inputs = [x, weight_ih, bias, *state, *weights]
        single = all(part is None or part.dtype is torch.float32 for part in inputs)
        if single and x.is_cpu and runs_compiled(cell, inputs):
            return compiled().compiled_step(cell, len(state), inputs)
    return cell.step(F.linear(x, weight_ih, bias), state, weights)


def runs_compiled(cell: Cell, inputs: list[Any]) -> bool:
    """All on a CPU or all on CUDA, outside of export, tracing, functorch and forward-mode derivatives."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if cell.kernel is None or torch.compiler.is_compiling() or tracing:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    on_cpu = inputs[0].is_cpu
    if not on_cpu and not inputs[0].is_cuda:
        return False
    for part in inputs:
        if part is not None and part.is_cpu is not on_cpu:
            return False
    # asking each tensor for its tangent costs more than a step, so ask first whether there can be one
    if forward_ad._current_level < 0:
        return True
    return all(part is None or forward_ad.unpack_dual(part).tangent is None for part in inputs)


@cache
def compiled() -> Any:
    """The compiled loops; numba is loaded on first use."""
    return import_module("core.kernels.gated_loop_cpu")


@cache
def fused() -> Any:
    """The loops of `core.kernels.gated_loop_triton`, or None where triton is not installed."""
    try:
        return import_module("core.kernels.gated_loop_triton")
    except ImportError:  # the plain loop gives the same numbers
        return None
