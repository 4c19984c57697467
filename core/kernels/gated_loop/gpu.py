"""Gated loops on a GPU: the plain LSTM and GRU by cuDNN, one or both directions of a sequence in one call.

Forward and backward of a whole sequence lie in one library call each, at any width. TF32 is used where
`torch.set_float32_matmul_precision` or autocast allow it for other products, in both passes. Second
derivatives go through the definition. Without a GPU torch gives the same numbers by its own loop, so the
tests compare this file on a CPU.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
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
    weights = [weight for direction in directions for weight in direction]
    tf32 = tf32_allowed()
    # under autocast torch would run cuDNN in float16, whose gradients vanish
    with torch.autocast(x.device.type, enabled=False):
        call = Call(kind, len(directions) == 2, tf32, cell)
        start = [
            torch.stack([part.float() for part in parts]) if call.both else parts[0].float()[None]
            for parts in zip(*states, strict=True)
        ]
        if lengths is None:
            y, *ends = call(x.float(), start, weights)
        else:
            packed = pack_padded_sequence(x.float(), lengths.cpu(), batch_first=True, enforce_sorted=False)
            order, back = packed.sorted_indices, packed.unsorted_indices
            call.sizes = packed.batch_sizes
            start = [part.index_select(1, order) for part in start]  # pyright: ignore[reportArgumentType]
            data, *ends = call(packed.data, start, weights)
            ends = [part.index_select(1, back) for part in ends]  # pyright: ignore[reportArgumentType]
            whole = PackedSequence(data, packed.batch_sizes, order, back)
            y = pad_packed_sequence(whole, batch_first=True, total_length=x.shape[1])[0]
    return y, [tuple(end[i] for end in ends) for i in range(len(states))]


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


@dataclass
class Call:
    """A call of cuDNN, or on a CPU of torch's layer: one layer, tokens padded or packed, in float32.

    Its backward pass has the precision of the forward one, whatever the switches say then.
    """

    kind: str
    both: bool
    """Whether there are two directions."""
    tf32: bool
    cell: Cell | None
    """Of a single direction, for second derivatives."""
    sizes: Tensor | None = None
    """Rows of each token of a packed batch."""

    def __call__(self, x: Tensor, start: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        """x (B, T, I), or packed (N, I), states (directions, B, H) -> y likewise, final states."""
        if not x.is_cuda:
            return self.of_torch(x, start, weights)
        flat = self.one_piece(weights, x.shape[-1])
        given = x, *start, *weights
        if torch.is_grad_enabled() and any(part.requires_grad for part in given):
            return Trained.apply(self, flat, *given)  # pyright: ignore[reportReturnType]
        return self.forward(flat, given, keep=False)[:-2]

    def of_torch(self, x: Tensor, start: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        function: Any = torch.lstm if self.kind == "lstm" else torch.gru
        state = start if self.kind == "lstm" else start[0]
        flags = (True, 1, 0.0, torch.is_grad_enabled(), self.both)
        if self.sizes is None:
            return function(x, state, weights, *flags, True)
        return function(x, self.sizes, state, weights, *flags)

    def parts(self, given: Any) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        """x, h, c (None: there is none), weights."""
        x, h, *rest = (part.contiguous() for part in given)
        return (x, h, rest[0], rest[1:]) if self.kind == "lstm" else (x, h, None, rest)

    def options(self, hidden: int, keep: bool) -> tuple[Any, ...]:
        """What torch's operators ask for behind the states, in their order."""
        first = self.sizes is None  # the batch lies first
        sizes = [] if self.sizes is None else self.sizes.tolist()
        return MODES[self.kind], hidden, 0, 1, first, 0.0, keep, self.both, sizes, None

    def forward(self, flat: Tensor, given: Any, *, keep: bool) -> tuple[Tensor, ...]:
        """y, final states, what backward needs: the reserve and the weights in one piece."""
        x, h, c, weights = self.parts(given)
        with precise(self.tf32), torch.no_grad():
            y, h_end, c_end, reserve, piece = torch._cudnn_rnn(  # pyright: ignore
                x, weights, 4, flat, h, c, *self.options(h.shape[-1], keep)
            )
        return (y, h_end, *(() if c is None else (c_end,)), reserve, piece)

    def backward(self, given: Any, y: Tensor, kept: Any, grads: Any, wanted: list[bool]) -> list[Any]:
        x, h, c, weights = self.parts(given)
        reserve, piece = kept
        dy, dh, *dc = grads
        # the reserve is written to, and a graph may be walked back twice
        with precise(self.tf32):
            dx, dh, dc, dweights = torch.ops.aten._cudnn_rnn_backward(
                x, weights, 4, piece, h, c, y, dy, dh, dc[0] if dc else None,
                *self.options(h.shape[-1], True), reserve.clone(), [True, True, c is not None, any(wanted)],
            )  # fmt: skip
        return [dx, dh, *(() if c is None else (dc,)), *(dweights if any(wanted) else [None] * len(weights))]

    def again(self, given: Any) -> tuple[Tensor, ...]:
        """The same by the cell's definition."""
        if self.cell is None:
            raise RuntimeError("cuDNN's loop of two directions gives first derivatives only")
        x, h, c, (w, u, b, own) = self.parts(given)
        lengths = None
        if self.sizes is not None:
            whole = PackedSequence(x, self.sizes)
            x, lengths = pad_packed_sequence(whole, batch_first=True)
        state = (h[0],) if c is None else (h[0], c[0])
        bias, others = (b, (u, own)) if c is None else (b + own, (u, None, None, None))
        ends = None if lengths is None else lengths.to(x.device)
        y, final = plain_loop(self.cell, x, w, bias, state, others, ends)
        if lengths is not None:
            y = pack_padded_sequence(y, lengths, batch_first=True).data
        return y, *(part[None] for part in final)

    def one_piece(self, weights: list[Tensor], inputs: int) -> Tensor:
        """The memory (N,) of the weights as cuDNN wants it: their own, or a copy."""
        if not in_one_piece(self.kind, weights, inputs, self.both):
            weights = [part.detach().clone() for part in weights]
            flattened(self.kind, weights, inputs, self.both)
        first = weights[0].detach()
        return first.as_strided((first.untyped_storage().nbytes() // first.element_size(),), (1,), 0)


class Trained(torch.autograd.Function):
    """A call of cuDNN by its own operators: to walk a graph inside would cost as much as a short loop."""

    @staticmethod
    def forward(ctx: Any, call: Call, flat: Tensor, *given: Tensor) -> Any:  # pyright: ignore
        ctx.set_materialize_grads(False)
        *outputs, reserve, piece = call.forward(flat, given, keep=True)
        ctx.call, ctx.given = call, len(given)
        ctx.save_for_backward(*given, outputs[0], reserve, piece)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        given, (y, *kept) = saved[: ctx.given], saved[ctx.given :]
        if torch.is_grad_enabled():
            views = [part.view_as(part) for part in given]
            asked = [(o, g) for o, g in zip(ctx.call.again(views), grads, strict=True) if g is not None]
            wanted = [part for part, need in zip(views, needed, strict=True) if need]
            ends, along = [o for o, _ in asked], [g for _, g in asked]
            found = iter(torch.autograd.grad(ends, wanted, along, create_graph=True, allow_unused=True))
            return None, None, *(next(found) if need else None for need in needed)
        states = 1 + (ctx.call.kind == "lstm")
        found = ctx.call.backward(given, y, kept, grads, list(needed[1 + states :]))
        return None, None, *(part if need else None for part, need in zip(found, needed, strict=True))


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
