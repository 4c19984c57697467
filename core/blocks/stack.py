"""The container around a unit: layers, directions, dropout, residuals, lengths, masks and resets.

It uses only two properties that every unit has: a sequence can be cut anywhere, and batch rows do not
see each other. So lengths, masks and resets are exact for any unit, in any of its modes:

- a mask moves the valid tokens of a row to the left and becomes a length;
- a reset starts a row of its own: a packed row becomes its documents;
- rows of different length are cut where the next one ends, and ended rows leave the batch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from core import registry
from core.blocks.rows import Documents, compact, flip_within, run_with_lengths
from core.errors import ConfigError
from core.state import choose, rows

MERGES = ("concat", "sum", "mean", "product")


class Stack(nn.Module):
    """x (B, T, I) -> y (B, T, output_size), state: a tuple with one unit state per layer and direction.

    The state of layer l, direction d is `state[l * directions + d]`; direction 1 reads backwards.
    """

    def __init__(
        self,
        unit: str,
        input_size: int,
        hidden_size: int | None = None,
        *,
        layers: int = 1,
        directions: int = 1,
        dropout: float = 0.0,
        residual: bool = False,
        merge: str = "concat",
        **options: Any,
    ) -> None:
        super().__init__()
        if layers < 1 or directions not in (1, 2):
            raise ConfigError(
                f"a stack has 1 or more layers and 1 or 2 directions, got {layers} and {directions}"
            )
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {dropout}")
        if merge not in MERGES:
            raise ConfigError(f"merge must be one of {MERGES}, got {merge!r}")
        self.layers, self.directions, self.merge, self.residual = layers, directions, merge, residual
        self.input_size = width = input_size
        hidden_size = input_size if hidden_size is None else hidden_size
        self.units = nn.ModuleList()
        for _ in range(layers):
            self.units.extend(registry.build(unit, width, hidden_size, **options) for _ in range(directions))
            out = int(self.units[-1].output_size)  # pyright: ignore[reportArgumentType]
            width = out * directions if merge == "concat" else out
        self.output_size = width
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, x: Tensor) -> tuple[Any, ...]:
        """State before the first token of x (B, ...)."""
        return tuple(unit.initial_state(x) for unit in self.units)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: tuple[Any, ...] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        mode: str | None = None,
    ) -> tuple[Any, tuple[Any, ...]]:
        """Run all layers; y at padded or masked places is zero and the state skips them.

        Args:
            x: (B, T, I), or a PackedSequence (then y is one too).
            state: from an earlier call; None starts fresh.
            lengths: (B,) integers in 0..T, valid tokens at the left of each row.
            mask: (B, T) booleans, True where a token counts; not together with lengths.
            reset: (B, T) booleans, True where a new document starts before the token.
            mode: computing mode of the units.

        Raises:
            ValueError: wrong shapes, or lengths outside 0..T.
        """
        if isinstance(x, PackedSequence):
            return self.forward_packed(x, state, mode)
        if x.ndim != 3 or x.shape[-1] != self.input_size:
            raise ValueError(f"the stack expects x of shape (B, T, {self.input_size}), got {tuple(x.shape)}")
        state = self.initial_state(x) if state is None else self.checked_state(state)
        lengths = checked_lengths(x, lengths, mask)
        if mask is not None:
            return self.forward_masked(x, state, mask, reset, mode)
        if reset is None:
            return self.forward_rows(x, state, lengths, mode)
        return self.forward_documents(x, state, lengths, reset, mode)

    def checked_state(self, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """The state, after checking that it has a part for each unit; the units check the parts."""
        if not isinstance(state, tuple | list) or len(state) != len(self.units):
            raise ValueError(
                f"the stack has {self.layers} layers x {self.directions} directions, so its state is a tuple "
                f"of {len(self.units)}; got {len(state) if isinstance(state, tuple | list) else type(state)}"
            )
        return tuple(state)

    def forward_rows(
        self, x: Tensor, state: tuple[Any, ...], lengths: Tensor | None, mode: str | None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        final = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                unit = self.units[index]
                tokens = flip_within(x, lengths) if direction else x
                y, end = run_with_lengths(unit, tokens, state[index], lengths, mode)
                outputs.append(flip_within(y, lengths) if direction else y)
                final.append(end)
            x = self.combine(x, outputs)
            if layer < self.layers - 1:
                x = self.dropout(x)
        return x, tuple(final)

    def combine(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        """Merge the directions and add the residual where the widths allow it."""
        y = outputs[0]
        if self.directions == 2:
            a, b = outputs
            y = {
                "concat": lambda: torch.cat(outputs, -1),
                "sum": lambda: a + b,
                "mean": lambda: (a + b) / 2,
                "product": lambda: a * b,
            }[self.merge]()
        return x + y if self.residual and x.shape[-1] == y.shape[-1] else y

    def forward_packed(
        self, x: PackedSequence, state: tuple[Any, ...] | None, mode: str | None
    ) -> tuple[PackedSequence, tuple[Any, ...]]:
        padded, lengths = pad_packed_sequence(x, batch_first=True)
        y, end = self(padded, state, lengths=lengths.to(padded.device), mode=mode)
        packed = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
        # keep the caller's row order: packing again by length may order ties differently
        if x.sorted_indices is None:
            packed = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=True)
        return packed, end

    def forward_masked(
        self, x: Tensor, state: tuple[Any, ...], mask: Tensor, reset: Tensor | None, mode: str | None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        order, lengths = compact(mask)
        tokens = x.gather(1, order[..., None].expand_as(x))
        if reset is None:
            y, end = self.forward_rows(tokens, state, lengths, mode)
        else:
            # a reset at a masked place takes effect at the next token that counts
            pending = (reset.long().cumsum(1)).gather(1, order)
            before = torch.cat([pending.new_zeros(len(pending), 1), pending[:, :-1]], 1)
            y, end = self.forward_documents(tokens, state, lengths, pending > before, mode)
        back = order.argsort(1)
        return y.gather(1, back[..., None].expand_as(y)), end

    def forward_documents(
        self,
        x: Tensor,
        state: tuple[Any, ...],
        lengths: Tensor | None,
        reset: Tensor,
        mode: str | None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        if reset.shape != x.shape[:2]:
            raise ValueError(f"reset must be of shape {tuple(x.shape[:2])}, got {tuple(reset.shape)}")
        documents = Documents.cut(reset.bool(), lengths)
        pieces = documents.split(x)
        fresh = self.initial_state(pieces)
        start = []
        for index, (given, empty) in enumerate(zip(state, fresh, strict=True)):
            backward = index % self.directions == 1
            edge = documents.continues_to if backward else documents.continues_from
            start.append(choose(edge, rows(given, documents.row), empty))
        y, end = self.forward_rows(pieces, tuple(start), documents.lengths, mode)
        final = tuple(
            rows(part, documents.first if index % self.directions == 1 else documents.last)
            for index, part in enumerate(end)
        )
        # documents that a row begins with a reset leave the given state unused
        return documents.merge(y), final

    def step(self, x: Tensor, state: tuple[Any, ...] | None) -> tuple[Tensor, tuple[Any, ...]]:
        """Advance one token through all layers: x (B, I), state (None: initial) -> y (B, H), state.

        Raises:
            ValueError: wrong shape of x or state; the stack also reads backwards, so it cannot stream.
        """
        if self.directions == 2:
            raise ValueError("a stack with two directions reads the future; it cannot go step by step")
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"the stack steps on a token of shape (B, {self.input_size}), got {tuple(x.shape)}"
            )
        state = self.initial_state(x) if state is None else self.checked_state(state)
        final = []
        for unit, part in zip(self.units, state, strict=True):
            y, end = unit.step(x, part)  # pyright: ignore[reportCallIssue]
            x = x + y if self.residual and x.shape[-1] == y.shape[-1] else y
            final.append(end)
        return x, tuple(final)


def checked_lengths(x: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Lengths as (B,) int64 on the device of x, after checking lengths and mask."""
    batch, time = x.shape[:2]
    if mask is not None:
        if lengths is not None:
            raise ValueError("give lengths or a mask, not both")
        if mask.shape != (batch, time):
            raise ValueError(f"mask must be of shape {(batch, time)}, got {tuple(mask.shape)}")
        return None
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths, device=x.device)
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ValueError(f"lengths must be {batch} integers, got {tuple(lengths.shape)} of {lengths.dtype}")
    if batch and (lengths.min() < 0 or lengths.max() > time):
        raise ValueError(f"lengths must be in 0..{time}, got {lengths.tolist()}")
    return lengths.long()


def stack(unit: str, input_size: int, hidden_size: int | None = None, **options: Any) -> Stack:
    """`core.stack("gru", 64, 128, layers=2)`; options as in `Stack`, the rest go to the unit."""
    return Stack(unit, input_size, hidden_size, **options)
