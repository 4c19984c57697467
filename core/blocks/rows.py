"""Rows of different length, with holes, or holding several documents, for any unit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.parts.ragged import by_copy
from core.state import join, rows


def compact(mask: Tensor) -> tuple[Tensor, Tensor]:
    """mask (B, T) -> order (B, T) that moves valid tokens left in their order, lengths (B,)."""
    return (~mask).long().argsort(dim=1, stable=True), mask.long().sum(1)


def flip_within(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each row of x (B, T, D) within its length; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    position = torch.arange(x.shape[1], device=x.device)[None]
    index = torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    return x.gather(1, index[..., None].expand_as(x))


def run_rows(
    unit: Any, x: Tensor, state: Any, lengths: Tensor | None, mode: str | None, *, final: bool
) -> tuple[Tensor, Any]:
    """Run a unit on rows of different length (None: no padding), x zero on padding unless the unit skips it.

    Gives y, which means nothing on padding, and the state as of each row's last token, or None if not wanted.
    """
    if lengths is None:
        y, state = unit(x, state, mode)
        return y, state if final else None
    if skips(unit, x, mode):
        y, end = unit(x, state, mode, lengths=lengths)
        return y, end if final else None
    if unit.freezes and (final or x.is_cpu):
        y, end = unit(x, state, mode, lengths=lengths)
    elif not final:
        y, end = unit(x, state, mode)[0], None
        # a recurrence that grew beyond all bounds on padding would spoil gradients, though y is masked
        if x.is_cpu and not bool(y.detach().isfinite().all()):
            y, _ = run_with_cuts(unit, x, state, lengths, mode)
    else:
        y, end = run_with_cuts(unit, x, state, lengths, mode)
    return y, end if final else None


def skips(unit: Any, x: Tensor, mode: str | None) -> bool:
    """Whether padding costs the unit nothing, whatever it holds."""
    if unit.packs and mode in (None, unit.modes[-1]):
        return by_copy(x)
    return unit.skips and x.is_cpu and mode in (None, "sequential")


def run_with_cuts(unit: Any, x: Tensor, state: Any, lengths: Tensor, mode: str | None) -> tuple[Tensor, Any]:
    """The same for any causal unit, cut where the shortest remaining row ends: it sees valid tokens only."""
    if bool((lengths[1:] > lengths[:-1]).any()):
        order = lengths.argsort(descending=True, stable=True)
        y, end = run_with_cuts(unit, x.index_select(0, order), rows(state, order), lengths[order], mode)
        back = order.argsort()
        return y.index_select(0, back), rows(end, back)
    ordered = lengths.tolist()
    pieces, ended, start = [], [], 0
    active = len(ordered)
    for cut in sorted(set(ordered)):
        if cut > start:
            y, state = unit(x[:active, start:cut], state, mode)
            pieces.append(torch.cat([y, y.new_zeros(len(ordered) - active, *y.shape[1:])]))
        left = sum(length > cut for length in ordered)
        ended.append(rows(state, slice(left, active)))
        state, active, start = rows(state, slice(0, left)), left, cut
    tail = x.new_zeros(len(ordered), x.shape[1] - start, unit.output_size)
    return torch.cat([*pieces, tail], 1), join(ended[::-1])


@dataclass(frozen=True)
class Documents:
    """Pieces of packed rows: document i is row[i], from start[i], lengths[i] tokens."""

    row: Tensor
    start: Tensor
    lengths: Tensor
    continues_from: Tensor
    """The document takes up the state that the row was given."""
    continues_to: Tensor
    """The document is the last of its row: a backward direction starts here."""
    first: Tensor
    """(B,) index of each row's first document."""
    last: Tensor
    shape: tuple[int, int]

    @classmethod
    def cut(cls, reset: Tensor, lengths: Tensor | None) -> "Documents":
        """reset (B, T) True where a document starts; a row always starts one."""
        batch, time = reset.shape
        if lengths is None:
            lengths = reset.new_full((batch,), time, dtype=torch.long)
        position = torch.arange(time, device=reset.device)[None]
        begins = reset & (position < lengths[:, None])
        fresh_row = begins[:, 0].clone() if time else reset.new_zeros(batch)
        begins = torch.cat([reset.new_ones(batch, 1), begins[:, 1:]], 1) if time else reset.new_ones(batch, 1)
        row, start = begins.nonzero(as_tuple=True)
        nothing = row.new_zeros(0)
        same_row = torch.cat([row[1:] == row[:-1], nothing.bool().new_zeros(1)])
        following = torch.cat([start[1:], nothing.new_zeros(1)])
        stop = torch.where(same_row, following, lengths[row])
        is_first = start == 0
        return cls(
            row=row,
            start=start,
            lengths=stop - start,
            continues_from=is_first & ~fresh_row[row],
            continues_to=~same_row,
            first=is_first.nonzero()[:, 0],
            last=(~same_row).nonzero()[:, 0],
            shape=(batch, time),
        )

    def index(self) -> tuple[Tensor, Tensor]:
        """Positions (documents, longest) in their rows, and which of them are real."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        offset = torch.arange(longest, device=self.row.device)[None]
        valid = offset < self.lengths[:, None]
        return torch.where(valid, self.start[:, None] + offset, 0), valid

    def split(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (documents, longest, D), zero beyond each length."""
        position, valid = self.index()
        return x[self.row[:, None], position].masked_fill(~valid[..., None], 0)

    def merge(self, y: Tensor) -> Tensor:
        """Back from (documents, longest, D) to (B, T, D)."""
        position, valid = self.index()
        whole = y.new_zeros(*self.shape, y.shape[-1])
        rows_of = self.row[:, None].expand_as(position)
        return whole.index_put((rows_of[valid], position[valid]), y[valid])
