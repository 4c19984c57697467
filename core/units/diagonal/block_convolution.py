"""Convolution mode of one linear system for each channel, in blocks with a state between them.

    y_t = (R_t . h) + sum_{l<=t} K_l x_{t-l}          t = 0 .. L-1 inside a block that begins with state h
    h'  = A^L h + sum_l W_l x_l

A block costs an FFT and two small matrix products. So memory for kernels does not grow with the sequence, and
a sequence may begin and end with a state.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from core.kernels.choice import recording
from core.kernels.fft_conv import fft_conv
from core.kernels.precision import without_autocast

BLOCK = 128

Parts = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""For a length L: K (I, L), R (I, N, L), W (I, L, N), all real."""
Transition = Callable[[int | Tensor], Callable[[Tensor], Tensor]]
"""For a length L, or one of each row (B,): what moves a state (I, B, N) by L tokens without input."""


@without_autocast
def block_convolution(
    x: Tensor, state: Tensor, parts: Parts, transition: Transition, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x (B, T, I), state (B, I, N) real -> y (B, T, I) and the last state, or that at each row's length."""
    length = min(x.shape[1], BLOCK)
    kernel, readout, inputs = parts(length)
    advance = transition(length)
    h, outputs, start = state.transpose(0, 1), [], 0
    ends, rows, left = h, None, lengths  # of the rows that go on: their places (None: all), tokens left
    for piece in x.split(length, 1):
        size = piece.shape[1]
        batch = len(piece)
        if rows is not None:
            piece = piece.index_select(0, rows)
        into = inputs[:, length - size :]
        y = fft_conv(piece, kernel[:, :size].T) + (h @ readout[..., :size]).permute(1, 2, 0)
        outputs.append(y if rows is None else y.new_zeros(batch, *y.shape[1:]).index_copy(0, rows, y))
        start += size
        if left is not None:
            here = (left <= size).nonzero().squeeze(1)
            if len(here):
                end = ended(piece[here], h[:, here], left[here], into, transition)
                ends = ends.index_copy(1, here if rows is None else rows[here], end)
            if len(here) == len(left):  # nothing goes on
                outputs.append(y.new_zeros(batch, x.shape[1] - start, y.shape[2]))
                break
            if len(here):  # the others go on
                on = (left > size).nonzero().squeeze(1)
                rows = on if rows is None else rows[on]
                left, h, piece = left[on], h.index_select(1, on), piece.index_select(0, on)
            left = left - size
        move = advance if size == length else transition(size)
        h = move(h) + piece.permute(2, 0, 1) @ into
    return torch.cat(outputs, 1), (h if lengths is None else ends).transpose(0, 1)


def ended(x: Tensor, h: Tensor, counts: Tensor, inputs: Tensor, transition: Transition) -> Tensor:
    """States (I, R, N) of rows x (R, L, I) after `counts` (R,) tokens: their tokens pushed to the end."""
    place = torch.arange(x.shape[1], device=x.device) - (x.shape[1] - counts[:, None])
    pushed = x.gather(1, place.clamp(min=0).unsqueeze(-1).expand_as(x)) * (place >= 0).unsqueeze(-1)
    end = pushed.permute(2, 0, 1) @ inputs
    fresh = not h.requires_grad and not recording() and not bool(h.any())  # the usual start moves nowhere
    return end if fresh else transition(counts)(h) + end
