"""Long sequences cut for truncated backpropagation."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from core.errors import ConfigError


def pieces(data: Any, rows: int, time: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Consecutive pieces of `rows` streams of a sequence: (x (rows, T, ...), what follows each token).

        state = None
        for x, following in core.training.pieces(tokens, rows=8, time=64):
            y, state = model(x, core.state.detach(state))

    Stream r is the r-th part of the sequence, so the state after a piece is that before the next one. All
    pieces have `time` tokens but the last, which has what is left; fewer than `rows` tokens at the end of the
    sequence are left out.

    Args:
        data: (N, ...) tokens or numbers, a tensor, an array or a list.
        rows: streams that advance together.
        time: tokens of a piece.

    Raises:
        ConfigError: rows or time below 1, or a sequence with less than one token a stream and one to follow.
    """
    if rows < 1 or time < 1:
        raise ConfigError(f"pieces take rows >= 1 and time >= 1, got {rows} and {time}")
    whole = torch.as_tensor(data)
    each = (len(whole) - 1) // rows if whole.ndim else 0
    if each < 1:
        raise ConfigError(f"{rows} streams want {rows + 1} tokens or more, got {tuple(whole.shape)}")
    return cut(whole, rows, time, each)


def cut(whole: Tensor, rows: int, time: int, each: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The pieces; `each` tokens a stream."""
    now = whole[: rows * each].unflatten(0, (rows, each))
    following = whole[1 : rows * each + 1].unflatten(0, (rows, each))
    for start in range(0, each, time):
        yield now[:, start : start + time], following[:, start : start + time]
