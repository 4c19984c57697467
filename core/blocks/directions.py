"""Units that read the same sequence in one or both directions, with the fastest loop for the pair."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.blocks.rows import flip_within
from core.kernels.choice import memory_on, recording
from core.kernels.gated_loop import cudnn_layer
from core.parts.lengths import beyond


def run_directions(
    units: Sequence[Any],
    x: Tensor,
    states: Sequence[Any] | None = None,
    *,
    lengths: Tensor | None = None,
    on_host: Tensor | None = None,
) -> tuple[Tensor, tuple[Any, ...] | None]:
    """x (B, T, I) through one unit, or a second one from its end -> y (B, T, sum of widths), final states.

    Plain LSTMs and GRUs on a GPU run both directions in one call of cuDNN. Elsewhere each unit runs whole:
    rows of different length are cut afterwards, so with `lengths` there are no final states (None).

    Args:
        units: one unit, or two; none of them looks ahead.
        x: what it holds beyond the lengths must be finite.
        states: what the units start from; None is their own beginning.
        lengths: (B,) valid tokens of each row; y is zero beyond them.
        on_host: the lengths once more, on the CPU, so that a GPU need not be waited for.

    Raises:
        ValueError: not one or two units.
    """
    if len(units) not in (1, 2):
        raise ValueError(f"a sequence is read in one or two directions, got {len(units)}")
    states = [unit.initial_state(x) for unit in units] if states is None else states
    if x.is_cuda:
        ends = lengths if on_host is None else on_host
        kind = shared_kind(units, x, ends)
        if kind is not None:
            weights = [(unit.weight_ih, unit.weight_hh, unit.bias_ih, unit.bias_hh) for unit in units]
            parts = [state if isinstance(state, tuple) else (state,) for state in states]
            y, final = cudnn_layer(kind, weights, x, parts, ends)
            single = isinstance(states[0], Tensor)
            return y, None if lengths is not None else tuple(end[0] if single else end for end in final)
    y, first = units[0](x, states[0])
    final = (first,)
    if len(units) == 2:
        back, second = units[1](flip_within(x, lengths), states[1])
        y, final = torch.cat([y, flip_within(back, lengths)], -1), (first, second)
    if lengths is None:
        return y, final
    return y.masked_fill(beyond(lengths, y.shape[1])[..., None], 0), None


def onednn_runs(units: Sequence[Any], x: Tensor) -> bool:
    """Whether oneDNN may read x: plain LSTMs in float32 on a CPU, no gradient wanted, nothing recorded.

    It takes 0.6 to 0.7 of the time of our compiled loop, beside what it prepares for every new shape.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or recording():
        return False
    plain = all(getattr(unit, "library", None) == "lstm" for unit in units)
    return plain and x.dtype == torch.float32 == units[0].weight_hh.dtype


def onednn_layer(
    units: Sequence[Any], x: Tensor, states: Sequence[Any] | None = None
) -> tuple[Tensor, tuple[Any, ...]]:
    """What `run_directions` gives, in one call of oneDNN; see `onednn_runs`."""
    weights = [
        part for unit in units for part in (unit.weight_ih, unit.weight_hh, unit.bias_ih, unit.bias_hh)
    ]
    states = [unit.initial_state(x) for unit in units] if states is None else states
    start = [torch.stack(parts) for parts in zip(*states, strict=True)]
    # biases, one layer, no dropout, not in training, how many directions, batch first
    y, h, c = torch.lstm(x, start, weights, True, 1, 0.0, False, len(units) == 2, True)
    return y, tuple(zip(h.unbind(0), c.unbind(0), strict=True))


def shared_kind(units: Sequence[Any], x: Tensor, lengths: Tensor | None) -> str | None:
    """The cell of cuDNN that all units are, if it may run here: no empty row, no graph being recorded."""
    kinds = {getattr(unit, "library", None) for unit in units}
    kind = kinds.pop()
    if kinds or kind is None or memory_on([x]) != "cuda":
        return None
    if any(unit.weight_hh.dtype != torch.float32 for unit in units):  # cuDNN's door computes in float32
        return None
    return kind if lengths is None or bool((lengths > 0).all()) else None
