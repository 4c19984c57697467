"""The loop that gated cells share: one input projection, then one step after another.

A cell states its step on projected input, with any number of states and weights:

    y_t, state_t = step(W x_t + b, state_{t-1}, weights)

`core.kernels.gated_loop.definition` loops over that. On a CPU, cells with a file in `cells/` run compiled
(`core.kernels.gated_loop.cpu`): it holds

    forward(gates, state, weights, options, ends)                -> y, state, kept
    backward(kept, weights, options, ends, dy, dstate, dweights) -> dgates

on numpy arrays, time first: gates (T, B, G) come in projected (forward may overwrite them), y is (T, B, P),
states are (B, .) and contiguous, `ends` (B,) holds the falling lengths of the rows, the first of them T (see
`core.kernels.gated_loop.rows`); backward changes dstate from that of the last state to that of the first and
adds to dweights, so a long sequence is worked in pieces. Matrices (N, K) among the weights come ready for
`core.kernels.matmul.multiply`: in forward for a @ W^T, in backward for a @ W.

Second derivatives go through the definition. Forward-mode derivatives, torch.func, tracing and export use the
definition altogether, and so do devices other than the CPU, except that the plain LSTM and GRU go through
cuDNN on CUDA (`core.kernels.gated_loop.gpu`). `library_loop` takes the weights of such a layer as they lie;
where both directions read one sequence, `cudnn_layer` runs them together (`core.blocks.directions` asks).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.choice import memory_on, version
from core.kernels.gated_loop.cell import Cell, Masks, States, Weights, seen, written
from core.kernels.gated_loop.definition import plain_loop
from core.kernels.gated_loop.gpu import cudnn_layer

__all__ = [
    "Cell",
    "Masks",
    "States",
    "Weights",
    "cudnn_layer",
    "gated_loop",
    "gated_step",
    "library_loop",
    "plain_loop",
    "seen",
    "written",
]


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
    device = memory_on(inputs) if cell.kernel is not None else None
    kernels = version(__name__, device) if device else None
    if kernels is None:
        if torch.is_autocast_enabled(x.device.type):
            return in_full(gated_loop, cell, x, weight_ih, bias, state, weights, lengths)
        return plain_loop(cell, x, weight_ih, bias, state, weights, lengths)
    double = any(part is not None and part.dtype == torch.float64 for part in inputs)
    dtype = torch.float64 if double else torch.float32
    cast = [part if part is None else part.to(dtype) for part in inputs]
    y, final = kernels.compiled_loop(cell, len(state), cast, lengths)
    return y.to(x.dtype), tuple(part.to(x.dtype) for part in final)


def library_loop(
    cell: Cell, kind: str, x: Tensor, weights: Weights, state: States, lengths: Tensor | None = None
) -> tuple[Tensor, States] | None:
    """The same on a GPU from a layer's own four weights, W, U and both biases; None where it cannot run.

    Parameters then lie as cuDNN wants them, so that no call copies them or adds biases.
    """
    inputs = [x, *weights, *state]
    if memory_on(inputs) != "cuda" or any(part is None or part.dtype != torch.float32 for part in inputs[1:]):
        return None
    kernels = version(__name__, "cuda")
    if kernels is None or x.dtype == torch.float64 or not kernels.has_library():
        return None
    y, (final,) = kernels.cudnn_layer(kind, [weights], x, [state], lengths, cell)
    return y.to(x.dtype), final


def gated_step(
    cell: Cell, x: Tensor, weight_ih: Tensor, bias: Tensor | None, state: States, weights: Weights
) -> tuple[Tensor, States]:
    """One token, x (B, I) -> y (B, P), states: compiled where no gradient is wanted, else the plain step."""
    if not torch.is_grad_enabled():
        inputs = [x, weight_ih, bias, *state, *weights]
        single = all(part is None or part.dtype is torch.float32 for part in inputs)
        if single and cell.kernel is not None and memory_on(inputs) == "cpu":
            kernels = version(__name__, "cpu")
            if kernels is not None:
                return kernels.compiled_step(cell, len(state), inputs)
    if torch.is_autocast_enabled(x.device.type):
        return in_full(gated_step, cell, x, weight_ih, bias, state, weights)
    return cell.step(F.linear(x, weight_ih, bias), state, weights)


def in_full(
    compute: Any,
    cell: Cell,
    x: Tensor,
    weight_ih: Tensor,
    bias: Tensor | None,
    state: States,
    weights: Weights,
    *lengths: Tensor | None,
) -> tuple[Tensor, States]:
    """The same without autocast, which would halve the state: in float32 at least, and back in its types."""
    dtype = torch.promote_types(weight_ih.dtype, torch.float32)
    x_, w, b, *rest = (None if p is None else p.to(dtype) for p in (x, weight_ih, bias, *state, *weights))
    states, others = tuple(rest[: len(state)]), tuple(rest[len(state) :])
    with torch.autocast(x.device.type, enabled=False):
        y, after = compute(cell, x_, w, b, states, others, *lengths)
    return y.to(x.dtype), tuple(new.to(old.dtype) for new, old in zip(after, state, strict=True))
