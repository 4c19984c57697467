"""Recurrent state as a plain value: a tensor, or nested tuples of tensors, batch on axis 0 of each.

Everything one does with a state (truncate, reorder beams, move, save) is a map over its tensors.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = Tensor | tuple[Any, ...]
"""A tensor (B, ...) or a (nested) tuple of such tensors."""


def map_state(function: Callable[..., Tensor], state: Any, *others: Any) -> Any:
    """Apply `function` to each tensor of `state` (and the tensors at the same place of `others`)."""
    if isinstance(state, Tensor):
        return function(state, *others)
    return tuple(map_state(function, part, *rest) for part, *rest in zip(state, *others, strict=True))


def tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, depth first."""
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from tensors(part)


def detach(state: Any) -> Any:
    """Cut the graph: truncated backpropagation through time."""
    return map_state(Tensor.detach, state)


def rows(state: Any, index: Tensor | slice) -> Any:
    """Rows of the batch by index or slice: reorder beams, take the active ones, repeat."""
    return map_state(lambda part: part[index], state)


def join(states: list[Any]) -> Any:
    """Stack several states along the batch."""
    return map_state(lambda *parts: torch.cat(parts), *states)


def choose(condition: Tensor, yes: Any, no: Any) -> Any:
    """Per row: `yes` where condition (B,) holds, else `no`."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(condition.view(-1, *[1] * (a.ndim - 1)), a, b)

    return map_state(pick, yes, no)


def to(state: Any, *args: Any, **kwargs: Any) -> Any:
    """Move or cast, as `Tensor.to`; complex tensors take the precision, integers keep their type."""

    def move(part: Tensor) -> Tensor:
        if part.is_complex():
            return torch.view_as_complex(torch.view_as_real(part).to(*args, **kwargs))
        moved = part.to(*args, **kwargs)
        return moved if part.is_floating_point() else moved.to(part.dtype)

    return map_state(move, state)


def shapes(state: Any) -> Any:
    """Shapes at the same places, for messages."""
    if isinstance(state, Tensor):
        return tuple(state.shape)
    return tuple(shapes(part) for part in state)


def size(state: Any) -> int:
    """Numbers kept per batch row."""
    return sum(part[0].numel() for part in tensors(state))


def save(state: Any, path: str | Path) -> None:
    """Write a state as safetensors; `load` gives it back with the same nesting."""
    import json

    from safetensors.torch import save_file

    from core.files import whole_file

    parts: dict[str, Tensor] = {}

    def number(part: Any) -> Any:
        if isinstance(part, Tensor):
            name = f"state.{len(parts)}"
            parts[name] = part.detach().contiguous().clone()
            return name
        return [number(inner) for inner in part]

    layout = json.dumps(number(state))
    with whole_file(path) as partial:
        save_file(parts, partial, metadata={"recurra_state": layout})


def load(path: str | Path) -> Any:
    """Read a state written by `save`.

    Raises:
        DataError: the file is missing, damaged, or not a saved state.
    """
    import json

    from safetensors import SafetensorError, safe_open

    from core.errors import DataError

    try:
        with safe_open(str(path), framework="pt") as file:
            layout = json.loads((file.metadata() or {})["recurra_state"])
            parts = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a saved recurrent state ({error})") from error

    def build(part: Any) -> Any:
        return parts[part] if isinstance(part, str) else tuple(build(inner) for inner in part)

    return build(layout)
