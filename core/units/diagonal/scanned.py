"""A unit that is a scan between maps of single tokens: the maps cost valid tokens alone."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from core.kernels.linear_scan import linear_scan
from core.kernels.linear_scan.rows import linear_scan_rows
from core.parts.lengths import at_end
from core.parts.packed import packed

Terms = Callable[[Tensor], tuple[Tensor, Tensor, Any]]
"""Tokens (..., I) -> decay and input of the recurrence (..., N), and what else the read-out wants."""


def scanned(
    x: Tensor, start: Tensor, lengths: Tensor | None, terms: Terms, readout: Callable[[Tensor, Any], Tensor]
) -> tuple[Tensor, Tensor]:
    """x (B, T, I), start (B, N) -> y (B, T, H), and the state (B, N) after each row's last token.

    With lengths on a CPU it does not matter what padding holds, and y is zero there.
    """
    rows = packed(x, lengths)
    if rows is None:
        a, b, kept = terms(x)
        h = linear_scan(a, b, start)
        return readout(h, kept), at_end(h, lengths, start)
    a, b, kept = terms(rows.pack(x))
    h = linear_scan_rows(a, b, start, rows.lengths)
    return rows.unpack(readout(h, kept)), rows.last(h, start)
