"""Rows of different length inside a unit: where padding begins, and states as of each row's last token.

A unit that `freezes` gets `lengths` (B,) with zeros beyond them, and returns states as if each row had ended
there. A scan gives all states, of which the right one is read; a state that only exists at the end stands
still on padding, since its gates say so (decay one, nothing written).
"""

import torch
from torch import Tensor


def beyond(lengths: Tensor, time: int) -> Tensor:
    """(B, T) True on padding."""
    return torch.arange(time, device=lengths.device) >= lengths[:, None]


def zeroed(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B, T, D) with zeros beyond the lengths, whatever was there, NaN included."""
    padding = beyond(lengths, x.shape[1])
    if not x.is_cpu or torch.compiler.is_compiling():
        return x.masked_fill(padding[..., None], 0)
    # whole rows by number: twice as fast as a mask that is repeated over the channels
    tokens = padding.flatten().nonzero().squeeze(1)
    return x.reshape(-1, x.shape[2]).index_fill(0, tokens, 0).view(x.shape)


def at_end(h: Tensor, lengths: Tensor | None, start: Tensor | None = None) -> Tensor:
    """State after each row's last token, from the states h (B, T, ..) after each token; a copy.

    `start` (B, ..) is the state before the first token, for rows without any.
    """
    if lengths is None:
        return h[:, -1].clone()  # a view would keep the whole sequence in memory
    rows = torch.arange(h.shape[0], device=h.device)
    end = h[rows, (lengths - 1).clamp(min=0)]
    if start is None:
        return end
    return torch.where((lengths > 0).view(-1, *[1] * (h.ndim - 2)), end, start.to(end.dtype))


def window_at_end(seen: Tensor, width: int, lengths: Tensor | None) -> Tensor:
    """The last `width` inputs of each row, oldest first; `seen` is (B, width + T, ..)."""
    if lengths is None:
        return seen[:, seen.shape[1] - width :].clone()
    rows = torch.arange(seen.shape[0], device=seen.device)[:, None]
    return seen[rows, lengths[:, None] + torch.arange(width, device=seen.device)]


def still(part: Tensor, lengths: Tensor | None, value: float = 0.0) -> Tensor:
    """part (B, T, ..) with `value` on padding: what makes a recurrence stand still."""
    if lengths is None:
        return part
    padding = beyond(lengths, part.shape[1])
    return part.masked_fill(padding.view(*padding.shape, *[1] * (part.ndim - 2)), value)
