"""The definition of a gated loop: one step after another."""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.gated_loop.cell import Cell, States, Weights
from core.parts.lengths import still


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
