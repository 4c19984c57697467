"""The plain LSTM and GRU by cuDNN's loop: one or both directions of a sequence in one call.

Forward and backward of a whole sequence lie in one library call each, at any width, where
`core.kernels.gated_loop.gpu` stops at 128. No second derivatives. Without a GPU torch gives the same numbers
by its own loop, so the tests compare this file on a CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

MODES = {"lstm": 2, "gru": 3}
"""cuDNN's own numbers of the cells."""


def cudnn_layer(
    kind: str,
    directions: list[tuple[Tensor, ...]],
    x: Tensor,
    states: list[tuple[Tensor, ...]],
    lengths: Tensor | None = None,
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """x (B, T, I), in float32 whatever its type -> y (B, T, directions * H), final states.

    `directions` holds W, U and both biases of each, `states` a tuple of parts (B, H) of each, h first.
    Lengths (B,) of 1 and more are best given on the CPU; y is zero beyond them.
    """
    weights = [weight for direction in directions for weight in direction]
    both = len(directions) == 2
    in_one_piece(kind, weights, x.shape[-1], both)
    # under autocast torch would run cuDNN in float16, whose gradients vanish
    with torch.autocast(x.device.type, enabled=False):
        start = [torch.stack([part.float() for part in parts]) for parts in zip(*states, strict=True)]
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
    return y, [tuple(end[i] for end in ends) for i in range(len(directions))]


def called(
    kind: str, x: Tensor, sizes: Tensor | None, start: list[Tensor], weights: list[Tensor], flags: Any
) -> Any:
    """torch's layer on a padded batch, or on the tokens of a packed one."""
    layer: Any = torch.lstm if kind == "lstm" else torch.gru
    state = start if kind == "lstm" else start[0]
    if sizes is None:
        return layer(x, state, weights, *flags, True)
    return layer(x, sizes, state, weights, *flags)


@torch.no_grad()
def in_one_piece(kind: str, weights: list[Tensor], inputs: int, both: bool) -> None:
    """Lay the weights of a layer into one piece of memory, once: else cuDNN copies them at every call."""
    storages = {weight.untyped_storage().data_ptr() for weight in weights}
    if len(storages) == 1 or torch.is_inference_mode_enabled():
        return
    if all(weight.is_cuda and weight.dtype == torch.float32 for weight in weights):
        hidden = weights[1].shape[1]
        torch._cudnn_rnn_flatten_weight(  # pyright: ignore[reportPrivateImportUsage]
            weights, 4, inputs, MODES[kind], hidden, 0, 1, True, both
        )
