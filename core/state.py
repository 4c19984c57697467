"""Recurrent state as a plain value: a tensor, or nested tuples of tensors, batch on axis 0 of each.

Everything one does with a state (truncate, reorder beams, move, save) is a map over its tensors.
"""

from collections.abc import Callable, Iterator, Sequence
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


def rebuild(layout: Any, parts: Iterator[Tensor]) -> Any:
    """The nesting of `layout` around other tensors."""
    return next(parts) if isinstance(layout, Tensor) else tuple(rebuild(part, parts) for part in layout)


def detach(state: Any) -> Any:
    """Cut the graph: truncated backpropagation through time. None, the state before any, stays None."""
    return None if state is None else map_state(Tensor.detach, state)


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


def byte_count(state: Any) -> int:
    """Bytes kept per batch row."""
    return sum(part[0].numel() * part.element_size() for part in tensors(state))


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

    from core.door import safetensors
    from core.errors import DataError, WeightsError

    try:
        parts, metadata = safetensors(path)
        layout = json.loads(metadata["recurra_state"])
    except (WeightsError, KeyError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a saved recurrent state ({error})") from error

    def build(part: Any) -> Any:
        return parts[part] if isinstance(part, str) else tuple(build(inner) for inner in part)

    return build(layout)


MAGIC = b"RST1"
"""Begins a state in bytes; the number is the version."""


def to_bytes(state: Any) -> bytes:
    """A state as one row of a store; `from_bytes` gives it back with the same nesting, types and bits.

    Layout: magic, CRC-32 of the rest, length of the description, the description (nesting, types, shapes
    as JSON), the numbers one after the other.
    """
    import json
    import zlib

    parts: list[bytes] = []

    def describe(part: Any) -> Any:
        if isinstance(part, Tensor):
            whole = part.detach().cpu().contiguous()
            parts.append(whole.reshape(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else b"")
            return [str(whole.dtype).removeprefix("torch."), *whole.shape]
        return [describe(inner) for inner in part] or ["empty"]

    layout = json.dumps(describe(state), separators=(",", ":")).encode()
    rest = len(layout).to_bytes(4, "little") + layout + b"".join(parts)
    return MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


def from_bytes(data: bytes, like: Any = None) -> Any:
    """The state in a row written by `to_bytes`.

    Args:
        like: a state that it must resemble: same nesting, types and shapes but for the batch.

    Raises:
        DataError: damaged, cut short, of another version, or a state of another network.
    """
    import json
    import zlib

    from core.errors import DataError

    data = bytes(data)
    if data[:4] != MAGIC or len(data) < 12:
        raise DataError("this row is not a recurrent state, or one of another version.")
    if zlib.crc32(data[8:]).to_bytes(4, "little") != data[4:8]:
        raise DataError("this row of a recurrent state is damaged.")
    try:
        end = 12 + int.from_bytes(data[8:12], "little")
        state, used = rebuilt(json.loads(data[12:end]), data, end)
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise DataError(f"this row of a recurrent state cannot be read ({error}).") from error
    if used != len(data):
        raise DataError("this row of a recurrent state has another length than it says.")
    if like is not None and kinds(state) != kinds(like):
        raise DataError(
            f"this row is the state of another network: {shapes(state)}, expected {shapes(like)}."
        )
    return state


def rows_to_bytes(state: Any) -> list[bytes]:
    """What `to_bytes` gives for every row of the batch by itself, at the cost of one."""
    import zlib

    import numpy as np

    first = to_bytes(rows(state, slice(0, 1)))
    head = first[8 : 12 + int.from_bytes(first[8:12], "little")]
    columns = []
    for part in tensors(state):
        whole = part.detach().cpu().contiguous()
        width = whole[0].numel() * whole.element_size()
        columns.append(whole.reshape(-1).view(torch.uint8).numpy().reshape(len(whole), width))
    each = [head + row.tobytes() for row in np.concatenate(columns, 1)]
    return [MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest for rest in each]


def rows_from_bytes(data: Sequence[bytes], like: Any) -> Any:
    """A batch of the states in rows of a store, each of one user, as `from_bytes` reads them.

    Raises:
        DataError: there is none, or what `from_bytes` says of one.
    """
    import zlib

    import numpy as np

    from core.errors import DataError

    if not data:
        raise DataError("there is no row of a state to read.")
    own = to_bytes(like)
    start = 12 + int.from_bytes(own[8:12], "little")
    for row in data:
        whole = len(row) == len(own) and row[:4] == MAGIC and row[8:start] == own[8:start]
        if not whole or zlib.crc32(row[8:]).to_bytes(4, "little") != row[4:8]:
            return join([from_bytes(row, like) for row in data])
    table = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1)
    parts, at = [], start
    for part in tensors(like):
        width = part.numel() * part.element_size()
        raw = torch.from_numpy(table[:, at : at + width].copy())
        parts.append(raw.view(part.dtype).reshape(len(data), *part.shape[1:]))
        at += width
    return rebuild(like, iter(parts))


def rebuilt(layout: Any, data: bytes, at: int) -> tuple[Any, int]:
    """The part of a state that a description tells, and where the next one begins."""
    if layout == ["empty"]:
        return (), at
    if isinstance(layout[0], str):
        dtype, shape = getattr(torch, layout[0]), [int(size) for size in layout[1:]]
        if not isinstance(dtype, torch.dtype) or min(shape, default=0) < 0:
            raise ValueError(f"{layout[0]!r} is no type of a tensor")
        count = 1
        for size in shape:
            count *= size
        length = count * dtype.itemsize
        if at + length > len(data):
            raise ValueError("it is cut short")
        raw = bytearray(data[at : at + length])
        flat = torch.frombuffer(raw, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return flat.reshape(shape), at + length
    parts = []
    for inner in layout:
        part, at = rebuilt(inner, data, at)
        parts.append(part)
    return tuple(parts), at


def kinds(state: Any) -> Any:
    """Types and shapes without the batch, at the same places."""
    if isinstance(state, Tensor):
        return (state.dtype, tuple(state.shape[1:]))
    return tuple(kinds(part) for part in state)
