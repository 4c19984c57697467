"""The container around a unit: layers, directions, dropout, residuals, lengths, masks and resets.

It uses only two properties that every unit has: a sequence can be cut anywhere, and batch rows do not
see each other. So lengths, masks and resets are exact for any unit, in any of its modes:

- a mask moves the valid tokens of a row to the left and becomes a length;
- a reset starts a row of its own: a packed row becomes its documents;
- rows of different length run in groups, each whole to its longest row, where a unit's state can stand
  still on padding; other units are cut where the next row ends, if their final state is wanted.

Whatever padding holds, it is zero for every layer, and so is y.

With `residual` a layer adds to its input, x + f(x); with `norm` it is a pre-norm block, x + f(rms(x)), and
one more norm follows the last layer (Xiong et al. 2020, arXiv 2002.04745). Plain layers hardly train when
there are many, so more than two are pre-norm blocks unless told otherwise. A layer whose output is wider or
narrower than its input stays plain.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from core import registry
from core.blocks.groups import grouped
from core.blocks.rows import Documents, compact, flip_within, run_rows, skips
from core.errors import ConfigError
from core.parts.lengths import zeroed
from core.parts.norm import RMSNorm
from core.parts.ragged import placed, taken
from core.state import choose, map_state, rows
from core.units.contract import Unit, checked_gaps, no_tokens

MERGES = ("concat", "sum", "mean", "product")


class Stack(nn.Module):
    """x (B, T, I) -> y (B, T, output_size), state: a tuple with one unit state per layer and direction.

    The state of layer l, direction d is `state[l * directions + d]`; direction 1 reads backwards.

    Args:
        unit: a name of the registry, "package.module:Class" or a class of units for all layers; or a list of
            such, or of units that are built already, one for each layer from the input on.
        layers: how many of one unit.
        directions: 2 reads backwards too.
        dropout: between the layers; in pre-norm blocks on what a layer adds.
        residual: x + f(x). None: with `norm`, and for more than two layers.
        norm: x + f(rms(x)) and a norm at the end. None: for more than two layers without a given `residual`.
        merge: how two directions become one: "concat", "sum", "mean" or "product".
        options: of all units.

    Raises:
        ConfigError: an option out of range, an unknown unit, a built unit of another width.
    """

    def __init__(
        self,
        unit: Any,
        input_size: int,
        hidden_size: int | None = None,
        *,
        layers: int | None = None,
        directions: int = 1,
        dropout: float = 0.0,
        residual: bool | None = None,
        norm: bool | None = None,
        merge: str = "concat",
        **options: Any,
    ) -> None:
        super().__init__()
        each, layers = kinds(unit, layers)
        if directions not in (1, 2):
            raise ConfigError(f"a stack has 1 or 2 directions, got {directions!r}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {dropout}")
        if merge not in MERGES:
            raise ConfigError(f"merge must be one of {MERGES}, got {merge!r}")
        self.layers, self.directions, self.merge = layers, directions, merge
        self.norm = residual is None and layers > 2 if norm is None else norm
        self.residual = self.norm if residual is None else residual
        if self.norm and not self.residual:
            raise ConfigError("norm=True is a block x + f(norm(x)), so it has a residual")
        self.input_size = width = input_size
        hidden_size = input_size if hidden_size is None else hidden_size
        self.units = nn.ModuleList()
        norms = []
        for kind in each:
            self.units.extend(layer_of(kind, width, hidden_size, directions, options))
            out = int(self.units[-1].output_size)  # pyright: ignore[reportArgumentType]
            before, width = width, out * directions if merge == "concat" else out
            norms.append(RMSNorm(width) if self.norm and before == width else nn.Identity())
        self.norms = nn.ModuleList([*norms, RMSNorm(width)] if self.norm else [])
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
        mask: Any = None,
        reset: Any = None,
        mode: str | None = None,
        final: bool = True,
        dt: Any = None,
    ) -> tuple[Any, Any]:
        """Run all layers; y at padded or masked places is zero and the state skips them.

        Args:
            x: (B, T, I), or a PackedSequence (then y is one too); what padding holds does not matter.
            state: from an earlier call; None starts fresh.
            lengths: (B,) integers in 0..T, valid tokens at the left of each row.
            mask: (B, T) booleans or zeros and ones, tensor or array, true where a token counts; not together
                with lengths.
            reset: (B, T) likewise, true where a new document starts before the token.
            mode: computing mode of the units.
            final: whether the state after the last tokens is wanted; without it None comes in its place,
                which for some units and lengths costs less.
            dt: (B, T) gaps before the tokens, for units that are `timed`; that of a masked token is added to
                the next one that counts.

        Raises:
            ValueError: wrong shapes, lengths outside 0..T, a mask of other numbers than 0 and 1.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None or mask is not None or dt is not None:
                raise ValueError("a PackedSequence has lengths of its own; give no lengths, mask or dt")
            return self.forward_packed(x, state, reset, mode, final)
        if not isinstance(x, Tensor):
            raise ValueError(f"the stack expects a tensor or a PackedSequence, got {type(x).__name__}")
        if x.ndim != 3 or x.shape[-1] != self.input_size:
            raise ValueError(f"the stack expects x of shape (B, T, {self.input_size}), got {tuple(x.shape)}")
        state = self.initial_state(x) if state is None else self.checked_state(state)
        lengths = checked_lengths(x, lengths, mask)
        mask, reset = truths("mask", mask, x), truths("reset", reset, x)
        if dt is not None:
            x = torch.cat([x, self.gaps(dt, x, mask)], -1)
        if mask is not None:
            y, end = self.forward_masked(x, state, mask, reset, mode, final)
        elif reset is None or not len(x):
            y, end = self.forward_rows(x, state, lengths, mode, final)
        else:
            y, end = self.forward_documents(x, state, lengths, reset, mode, final)
        return y, end if final else None

    def gaps(self, dt: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        """Gaps as one more channel (B, T, 1), which lengths, masks and resets move with their tokens."""
        if self.directions == 2:
            raise ValueError("a stack with two directions takes no gaps dt")
        units: Any = self.units
        found = next(checked_gaps(unit, dt, x, x.shape[:2]) for unit in units)
        gaps = torch.ones_like(x[..., 0]) if found is None else found.to(x.dtype)
        if mask is not None:
            passed = gaps.cumsum(1)
            before = torch.where(mask, passed, 0).cummax(1).values
            gaps = passed - torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], 1)
        return gaps.unsqueeze(-1)

    def checked_state(self, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """The state, after checking that it has a part for each unit; the units check the parts."""
        if not isinstance(state, tuple | list) or len(state) != len(self.units):
            given = len(state) if isinstance(state, tuple | list) else type(state).__name__
            raise ValueError(
                f"the stack has {self.layers} layers x {self.directions} directions, so its state is a tuple "
                f"of {len(self.units)}; got {given}"
            )
        return tuple(state)

    def forward_rows(
        self, x: Tensor, state: tuple[Any, ...], lengths: Tensor | None, mode: str | None, final: bool
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Rows of any length, sorted and in groups that run through all layers together."""
        batch, time = x.shape[:2]
        if lengths is None or bool((lengths == time).all()):
            return self.forward_layers(x, state, None, mode, final)
        units: Any = self.units
        free = x.shape[2] == self.input_size and all(skips(unit, x, mode) for unit in units)  # no gaps
        causal = all(unit.causal for unit in units)
        ends = lengths.tolist()
        most = 1 if free or x.is_cuda else min(unit.row_groups for unit in units)
        groups = grouped(ends, self.input_size, causal=causal, most=most)
        parts, finals = [], []
        for group in groups:
            every = [end for _, end in group]
            longest = max(every)
            own = torch.tensor(every, device=x.device) if min(every) < longest else None
            here = torch.tensor([place for place, _ in group], device=x.device)
            all_here = len(group) == batch and all(row == place for row, (place, _) in enumerate(group))
            as_it_is = free and all_here and not self.norm
            part = x[:, :longest] if as_it_is else taken(x, group, longest)
            begin = state if all_here else rows(state, here)
            y, end = self.forward_layers(part, begin, own, mode, final)
            if all_here and free and not self.residual:
                return F.pad(y, (0, 0, 0, time - longest)) if longest < time else y, end
            if all_here:
                return placed([y], [group], batch, time), end
            parts.append(y)
            finals.append((here, end))
        if not parts:
            return F.pad(no_tokens(self, x[:, :0], self.output_size), (0, 0, 0, time)), state
        y = placed(parts, groups, batch, time)
        return y, self.final_state(state, finals) if final else ()

    @staticmethod
    def final_state(start: tuple[Any, ...], finals: list[tuple[Tensor, Any]]) -> tuple[Any, ...]:
        """States of all rows: those of groups at their places, that before the first token elsewhere."""
        for here, end in finals:
            start = map_state(
                lambda part, new, here=here: part.index_copy(0, here, new.to(part.dtype)), start, end
            )
        return start

    def forward_layers(
        self, x: Tensor, state: tuple[Any, ...], lengths: Tensor | None, mode: str | None, final: bool
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """All layers on rows of different length (None: no padding); on padding y means nothing."""
        ends, extra = [], {}
        if x.shape[-1] > self.input_size:
            x, extra = x[..., :-1], {"dt": x[..., -1]}
        for layer in range(self.layers):
            outputs = []
            inputs = self.norms[layer](x) if self.norm else x
            for direction in range(self.directions):
                index = layer * self.directions + direction
                unit = self.units[index]
                tokens = flip_within(inputs, lengths) if direction else inputs
                if extra:
                    y, end = unit(tokens, state[index], mode, lengths=lengths, **extra)
                else:
                    y, end = run_rows(unit, tokens, state[index], lengths, mode, final=final)
                outputs.append(flip_within(y, lengths) if direction else y)
                ends.append(end)
            x = self.combine(x, outputs, layer)
            if layer < self.layers - 1 and lengths is not None:
                x = zeroed(x, lengths)
        return (self.norms[-1](x) if self.norm else x), tuple(ends)

    def combine(self, x: Tensor, outputs: list[Tensor], layer: int) -> Tensor:
        """Merge the directions, drop out, and add the residual where the widths allow it."""
        y = outputs[0]
        if self.directions == 2:
            a, b = outputs
            y = {
                "concat": lambda: torch.cat(outputs, -1),
                "sum": lambda: a + b,
                "mean": lambda: (a + b) / 2,
                "product": lambda: a * b,
            }[self.merge]()
        dropout = self.dropout if layer < self.layers - 1 else None
        if self.residual and x.shape[-1] == y.shape[-1]:
            if self.norm:
                return x + (y if dropout is None else dropout(y))
            y = x + y
        return y if dropout is None else dropout(y)

    def forward_packed(
        self, x: PackedSequence, state: tuple[Any, ...] | None, reset: Any, mode: str | None, final: bool
    ) -> tuple[PackedSequence, Any]:
        padded, lengths = pad_packed_sequence(x, batch_first=True)
        own = lengths.to(padded.device)
        y, end = self(padded, state, lengths=own, reset=reset, mode=mode, final=final)
        packed = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
        # keep the caller's row order: packing again by length may order ties differently
        if x.sorted_indices is None:
            packed = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=True)
        return packed, end

    def forward_masked(
        self,
        x: Tensor,
        state: tuple[Any, ...],
        mask: Tensor,
        reset: Tensor | None,
        mode: str | None,
        final: bool,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        order, lengths = compact(mask)
        tokens = x.gather(1, order[..., None].expand_as(x))
        if reset is None or not len(x):
            y, end = self.forward_rows(tokens, state, lengths, mode, final)
        else:
            # a reset at a masked place takes effect at the next token that counts
            pending = (reset.long().cumsum(1)).gather(1, order)
            before = torch.cat([pending.new_zeros(len(pending), 1), pending[:, :-1]], 1)
            y, end = self.forward_documents(tokens, state, lengths, pending > before, mode, final)
        back = order.argsort(1)
        return y.gather(1, back[..., None].expand_as(y)), end

    def forward_documents(
        self,
        x: Tensor,
        state: tuple[Any, ...],
        lengths: Tensor | None,
        reset: Tensor,
        mode: str | None,
        final: bool,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        documents = Documents.cut(reset, lengths)
        pieces = documents.split(x)
        fresh = self.initial_state(pieces)
        start = []
        for index, (given, empty) in enumerate(zip(state, fresh, strict=True)):
            backward = index % self.directions == 1
            edge = documents.continues_to if backward else documents.continues_from
            start.append(choose(edge, rows(given, documents.row), empty))
        y, end = self.forward_rows(pieces, tuple(start), documents.lengths, mode, final)
        # documents that a row begins with a reset leave the given state unused
        return documents.merge(y), tuple(
            rows(part, documents.first if index % self.directions == 1 else documents.last)
            for index, part in enumerate(end if final else ())
        )

    def step(
        self, x: Tensor, state: tuple[Any, ...] | None, dt: Any = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Advance one token through all layers: x (B, I), state (None: initial) -> y (B, H), state.

        `dt` (B,) is the gap before the token, for units that are `timed`.

        Raises:
            ValueError: wrong shape of x or state; the stack also reads backwards, so it cannot stream.
        """
        if self.directions == 2:
            raise ValueError("a stack with two directions reads the future; it cannot go step by step")
        if not isinstance(x, Tensor):
            raise ValueError(f"the stack steps on a tensor, got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"the stack steps on a token of shape (B, {self.input_size}), got {tuple(x.shape)}"
            )
        state = self.initial_state(x) if state is None else self.checked_state(state)
        final, extra = [], () if dt is None else (dt,)
        units: Any = self.units
        for layer, (unit, part) in enumerate(zip(units, state, strict=True)):
            y, end = unit.step(self.norms[layer](x) if self.norm else x, part, *extra)
            x = self.combine(x, [y], layer)
            final.append(end)
        return (self.norms[-1](x) if self.norm else x), tuple(final)


def kinds(unit: Any, layers: int | None) -> tuple[list[Any], int]:
    """One kind of unit for each layer, and how many."""
    if not isinstance(unit, list | tuple):
        layers = 1 if layers is None else layers
        if not isinstance(layers, int) or layers < 1:
            raise ConfigError(f"a stack has 1 or more layers, got {layers!r}")
        return [unit] * layers, layers
    if layers not in (None, len(unit)) or not unit:
        raise ConfigError(f"a list of units is one for each layer, got {len(unit)} and layers={layers}")
    return list(unit), len(unit)


def layer_of(kind: Any, width: int, hidden: int, directions: int, options: dict[str, Any]) -> list[nn.Module]:
    """The units of one layer, built unless they are."""
    if not isinstance(kind, nn.Module):
        return [registry.build(kind, width, hidden, **options) for _ in range(directions)]
    if not isinstance(kind, Unit) or kind.input_size != width:
        found = f"a {type(kind).__name__} of input width {getattr(kind, 'input_size', 'unknown')}"
        raise ConfigError(f"this layer of the stack takes a core.Unit of input width {width}, got {found}")
    if options or directions == 2:
        raise ConfigError("a unit that is built already takes no options and reads in one direction only")
    return [kind]


def truths(name: str, values: Any, x: Tensor) -> Tensor | None:
    """A mask or resets (B, T) as booleans on the device of x, from booleans or numbers 0 and 1."""
    if values is None:
        return None
    values = as_numbers(name, values, x)
    if values.shape != x.shape[:2]:
        raise ValueError(f"{name} must be of shape {tuple(x.shape[:2])}, got {tuple(values.shape)}")
    if values.dtype == torch.bool:
        return values
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError(f"{name} must be boolean or of zeros and ones, got other numbers ({values.dtype})")
    return values == 1


def as_numbers(name: str, values: Any, x: Tensor) -> Tensor:
    """Numbers of any kind as a tensor on the device of x."""
    try:
        return torch.as_tensor(values, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers, got {type(values).__name__} ({error})") from None


def checked_lengths(x: Tensor, lengths: Tensor | None, mask: Any) -> Tensor | None:
    """Lengths as (B,) int64 on the device of x, after checking them."""
    batch, time = x.shape[:2]
    if mask is not None and lengths is not None:
        raise ValueError("give lengths or a mask, not both")
    if lengths is None:
        return None
    lengths = as_numbers("lengths", lengths, x)
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be {batch} integers, got {tuple(lengths.shape)} of {lengths.dtype}")
    if batch and (lengths.min() < 0 or lengths.max() > time):
        raise ValueError(f"lengths must be in 0..{time}, got {lengths.tolist()}")
    return lengths.long()


def stack(unit: Any, input_size: int, hidden_size: int | None = None, **options: Any) -> Stack:
    """`core.stack("gru", 64, 128, layers=2)`; options as in `Stack`, the rest go to the unit."""
    return Stack(unit, input_size, hidden_size, **options)
