"""Gated loops on a GPU: the plain LSTM and GRU by cuDNN, one or both directions of a sequence in one call.

Forward and backward of a whole sequence lie in one library call each, at any width. TF32 is used where
`torch.set_float32_matmul_precision` or autocast allow it for other products, in both passes. Second
derivatives go through the definition. Without a GPU torch gives the same numbers by its own loop, so the
tests compare this file on a CPU.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from core.kernels.gated_loop.cell import Cell, States, Weights
from core.kernels.gated_loop.definition import plain_loop

MODES = {"lstm": 2, "gru": 3}
"""cuDNN's own numbers of the cells."""


def compiled_loop(
    cell: Cell, states: int, inputs: list[Any], lengths: Tensor | None = None
) -> tuple[Tensor, States]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states.

    The twin of `core.kernels.gated_loop.cpu.compiled_loop`. Cells other than the plain LSTM and the GRU with
    its reset after the product, and float64, take the plain loop.
    """
    x, weight_ih, bias, *rest = inputs
    state, weights = tuple(rest[:states]), tuple(rest[states:])
    kind = library_kind(cell, weights)
    if kind is None or x.dtype != torch.float32 or not len(x) or not has_library():
        return plain_loop(cell, x, weight_ih, bias, state, weights, lengths)
    zeros = x.new_zeros(weight_ih.shape[0])
    u, own = weights[0], weights[1] if kind == "gru" else None
    assert u is not None
    layer = weight_ih, u, zeros if bias is None else bias, zeros if own is None else own
    y, (final,) = cudnn_layer(kind, [layer], x, [state], lengths, cell)
    return y, final


def has_library() -> bool:
    """Whether cuDNN is there and switched on."""
    return cudnn.is_available() and cudnn.enabled


def library_kind(cell: Cell, weights: Weights) -> str | None:
    """Which layer of cuDNN computes the cell."""
    if cell.kernel == "gru" and cell.options == (False,):
        return "gru"
    plain = cell.options == (0, 1, 2, 3, False, True, True) and all(part is None for part in weights[1:])
    return "lstm" if cell.kernel == "lstm" and plain else None


def cudnn_layer(
    kind: str,
    directions: list[tuple[Tensor, ...]],
    x: Tensor,
    states: list[tuple[Tensor, ...]],
    lengths: Tensor | None = None,
    cell: Cell | None = None,
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """x (B, T, I), in float32 whatever its type -> y (B, T, directions * H), final states.

    Args:
        directions: W, U and both biases of each. Parameters are laid into one piece of memory, once.
        states: a tuple of parts (B, H) of each, h first.
        lengths: (B,) of 1 and more, best given on the CPU; y is zero beyond them.
        cell: of a single direction, for second derivatives, which go through its definition.
    """
    both, inner = len(directions) == 2, len(states[0])
    matrices = [weight for direction in directions for weight in direction]
    laid = in_one_piece(kind, matrices, x.shape[-1], both)

    def placed(parts: list[Tensor]) -> list[Tensor]:
        if laid or not x.is_cuda:
            return parts
        copies = [part.clone() for part in parts[-len(matrices) :]]
        flattened(kind, copies, x.shape[-1], both)
        return [*parts[: -len(matrices)], *copies]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        own = rest[: inner * len(states)]
        parts = [own[first : first + inner] for first in range(0, len(own), inner)]
        y, ends = layer(kind, list(rest[len(own) :]), x, parts, lengths, both)
        return y, *(part for end in ends for part in end)

    def plain(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        assert cell is not None
        w, u, b, c = rest[inner:]
        bias, others = (b, (u, c)) if kind == "gru" else (b + c, (u, None, None, None))
        y, end = plain_loop(cell, x, w, bias, rest[:inner], others, lengths)
        return y, *end

    given = x, *(part for parts in states for part in parts), *matrices
    y, *ends = in_full(run, *given, placed=placed, plain=None if cell is None else plain)
    return y, [tuple(ends[first : first + inner]) for first in range(0, len(ends), inner)]


def tf32_allowed() -> bool:
    """Whether other products may take TF32 or less: by torch's switch for them, or under autocast."""
    return torch.get_float32_matmul_precision() != "highest" or torch.is_autocast_enabled("cuda")


def precise(allowed: bool = False) -> AbstractContextManager[None]:
    """cuDNN without TF32, or with it where it is allowed; its other switches stay."""
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=allowed,
    )


def in_full(
    run: Callable[..., tuple[Tensor, ...]],
    *given: Tensor,
    placed: Callable[[list[Tensor]], list[Tensor]] = list,
    plain: Callable[..., tuple[Tensor, ...]] | None = None,
) -> tuple[Tensor, ...]:
    """Outputs of a call of cuDNN whose backward pass has the precision of the forward one.

    Args:
        run: the call, on what `placed` made of the given tensors.
        plain: the same in torch's own operators, for second derivatives.
    """
    if torch.is_grad_enabled() and any(part.requires_grad for part in given):
        return Precise.apply(run, placed, plain, *given)  # pyright: ignore[reportReturnType]
    with precise(tf32_allowed()), torch.no_grad():
        return run(*placed(list(given)))


class Precise(torch.autograd.Function):
    """A call whose graph is kept, so that the switch of TF32 holds for both passes."""

    @staticmethod
    def forward(ctx: Any, run: Any, placed: Any, plain: Any, *given: Tensor) -> Any:  # pyright: ignore
        ctx.set_materialize_grads(False)
        leaves = placed([part.detach() for part in given])
        for leaf, part in zip(leaves, given, strict=True):
            leaf.requires_grad_(part.requires_grad)
        ctx.tf32 = tf32_allowed()  # backward runs outside autocast
        with precise(ctx.tf32), torch.enable_grad():
            outputs = run(*leaves)
        ctx.plain, ctx.leaves, ctx.outputs = plain, leaves, outputs
        ctx.save_for_backward(*given)
        return tuple(part.detach() for part in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        leaves, outputs = ctx.leaves, ctx.outputs
        again = torch.is_grad_enabled()
        if again:
            if ctx.plain is None:
                raise RuntimeError("cuDNN's loop of two directions gives first derivatives only")
            leaves = [part.view_as(part) for part in ctx.saved_tensors]
            outputs = ctx.plain(*leaves)
        wanted = [part for part in leaves if part.requires_grad]
        asked = [(part, grad) for part, grad in zip(outputs, grads, strict=True) if grad is not None]
        ends, tangents = [part for part, _ in asked], [grad for _, grad in asked]
        with precise(ctx.tf32):
            found = iter(torch.autograd.grad(ends, wanted, tangents, retain_graph=True, create_graph=again))
        return None, None, None, *(next(found) if part.requires_grad else None for part in leaves)


def layer(
    kind: str,
    weights: list[Tensor],
    x: Tensor,
    states: list[tuple[Tensor, ...]],
    lengths: Tensor | None,
    both: bool,
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """One layer of torch in float32 -> y, final states of each direction."""
    # under autocast torch would run cuDNN in float16, whose gradients vanish
    with torch.autocast(x.device.type, enabled=False):
        start = [
            torch.stack([part.float() for part in parts]) if both else parts[0].float()[None]
            for parts in zip(*states, strict=True)
        ]
        # no dropout here: training only says whether cuDNN keeps what a gradient needs
        flags = (True, 1, 0.0, torch.is_grad_enabled(), both)
        if lengths is None:
            y, *ends = called(kind, x.float(), None, start, weights, flags)
        else:
            packed = pack_padded_sequence(x.float(), lengths.cpu(), batch_first=True, enforce_sorted=False)
            order, back = packed.sorted_indices, packed.unsorted_indices
            start = [part.index_select(1, order) for part in start]  # pyright: ignore[reportArgumentType]
            data, *ends = called(kind, packed.data, packed.batch_sizes, start, weights, flags)
            ends = [part.index_select(1, back) for part in ends]  # pyright: ignore[reportArgumentType]
            whole = PackedSequence(data, packed.batch_sizes, order, back)
            y = pad_packed_sequence(whole, batch_first=True, total_length=x.shape[1])[0]
    return y, [tuple(end[i] for end in ends) for i in range(len(states))]


def called(
    kind: str, x: Tensor, sizes: Tensor | None, start: list[Tensor], weights: list[Tensor], flags: Any
) -> Any:
    """torch's layer on a padded batch, or on the tokens of a packed one."""
    function: Any = torch.lstm if kind == "lstm" else torch.gru
    state = start if kind == "lstm" else start[0]
    if sizes is None:
        return function(x, state, weights, *flags, True)
    return function(x, sizes, state, weights, *flags)


@torch.no_grad()
def in_one_piece(kind: str, weights: list[Tensor], inputs: int, both: bool) -> bool:
    """Whether the weights of a layer lie in one piece of memory: else cuDNN copies them at every call.

    Parameters of a network are laid so, once, as torch does it for its own layers. Their numbers stay what
    they are, so graphs that hold them stay right.
    """
    if len({weight.untyped_storage().data_ptr() for weight in weights}) == 1:
        return not weights[0].storage_offset()
    own = all(type(weight) is nn.Parameter and weight.dtype == torch.float32 for weight in weights)
    if not own or not weights[0].is_cuda or torch.is_inference_mode_enabled():
        return False
    if torch.cuda.is_current_stream_capturing():  # the memory would be the graph's
        return False
    copies = [weight.detach().clone() for weight in weights]
    flattened(kind, copies, inputs, both)
    for weight, copy in zip(weights, copies, strict=True):
        weight.data = copy
    return True


@torch.no_grad()
def flattened(kind: str, weights: list[Tensor], inputs: int, both: bool) -> None:
    """Move weights on a GPU into one piece of memory."""
    hidden = weights[1].shape[1]
    torch._cudnn_rnn_flatten_weight(  # pyright: ignore[reportPrivateImportUsage]
        weights, 4, inputs, MODES[kind], hidden, 0, 1, True, both
    )
