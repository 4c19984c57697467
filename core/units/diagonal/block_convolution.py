"""Convolution mode of one linear system for each channel, in blocks with a state between them.

    y_t = (R_t . h) + sum_{l<=t} K_l x_{t-l}          t = 0 .. L-1 inside a block that begins with state h
    h'  = A^L h + sum_l W_l x_l

A block costs an FFT and two small matrix products. So memory for kernels does not grow with the sequence, and
a sequence may begin and end with a state.
"""

from collections.abc import Callable

import torch
from torch import Tensor

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
    ends = h if lengths is not None else None
    for piece in x.split(length, 1):
        size = piece.shape[1]
        if lengths is not None and ends is not None:
            here = ((lengths > start) & (lengths <= start + size)).nonzero().squeeze(1)
            if len(here):
                left = lengths[here] - start
                end = ended(piece[here], h[:, here], left, inputs[:, length - size :], transition)
                ends = ends.index_copy(1, here, end)
            start += size
        answer = h @ readout[..., :size]  # (I, B, L)
        outputs.append(fft_conv(piece, kernel[:, :size].T) + answer.permute(1, 2, 0))
        move = advance if size == length else transition(size)
        h = move(h) + piece.permute(2, 0, 1) @ inputs[:, length - size :]
    return torch.cat(outputs, 1), (h if ends is None else ends).transpose(0, 1)


def ended(x: Tensor, h: Tensor, counts: Tensor, inputs: Tensor, transition: Transition) -> Tensor:
    """States (I, R, N) of rows x (R, L, I) after `counts` (R,) tokens: their tokens pushed to the end."""
    place = torch.arange(x.shape[1], device=x.device) - (x.shape[1] - counts[:, None])
    pushed = x.gather(1, place.clamp(min=0).unsqueeze(-1).expand_as(x)) * (place >= 0).unsqueeze(-1)
    return transition(counts)(h) + pushed.permute(2, 0, 1) @ inputs
