"""Exact top-k of products with a large table, and exact Thompson draws that draw almost nothing.

Blocks of items by falling norm: one product into a kept buffer, then a compiled scan that looks at 32 columns
at a time and opens them only where their largest beats the root of a heap of k. A user whose |z| |m| of a
block is below that root is finished. Filters are a mask that the scan reads, so a filtered request costs the
same and is never short.

With a dot score and independent normals per item, the scores given z are independent normals
mu_i = z.m_i, sd_i^2 = sum_d z_d^2 s_id^2. Only draws above the running k-th best tau matter: with
sb = sqrt(z^2 . S_b) >= sd_i, S_b the largest s^2 of the block, item i can enter only if its noise exceeds
w_i = (tau - mu_i) / sb. With probability Q(w_i) a normal truncated to x > w_i is drawn and the score worked
out; otherwise nothing is drawn, and the top-k has exactly the law of a full draw.
"""

import math

import numpy as np

from core.errors import DataError
from core.kernels.jit import compiled

BLOCK = 4096
"""Items of one product."""
STRIDE = 32
"""Columns whose largest is looked at first."""
FIRST_FULL = 4 * BLOCK
"""Items drawn in full, by falling norm, so that the threshold starts high."""
ROUNDED = 1e-4
"""More than a product of float32 is above |z| |m| by rounding, as a share of it."""


class ItemIndex:
    """Means (I, D) and, for draws, spreads (I, D) or (I,) of a table, ordered by norm and cut into blocks."""

    def __init__(self, means: np.ndarray, spread: np.ndarray | None = None) -> None:
        if means.ndim != 2 or not len(means):
            raise DataError(f"an index wants means (I, D), got {means.shape}.")
        order = np.argsort(-(means.astype(np.float32) ** 2).sum(1), kind="stable")
        self.order = order.astype(np.int64)
        self.means = np.ascontiguousarray(means[order], dtype=np.float32)
        self.norm = np.sqrt((self.means[::BLOCK].astype(np.float64) ** 2).sum(1))
        self.square: np.ndarray | None = None
        self.ceiling: np.ndarray | None = None
        if spread is not None:
            wide = np.broadcast_to(spread[:, None] if spread.ndim == 1 else spread, means.shape)
            self.square = np.ascontiguousarray(wide[order].astype(np.float32) ** 2)
            blocks = -(-len(means) // BLOCK)
            self.ceiling = np.stack([self.square[b * BLOCK : (b + 1) * BLOCK].max(0) for b in range(blocks)])

    def __len__(self) -> int:
        return len(self.means)

    def top(self, z: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k best items (B, k) by z.m for z (B, D), and their scores; ties go to the lower number.

        Args:
            allowed: (I,) bool by item number; the others are never looked at.

        Raises:
            DataError: fewer than k items may be shown.
        """
        z = np.ascontiguousarray(np.atleast_2d(z), dtype=np.float32)
        mask = self.mask(allowed, k)
        values = np.full((len(z), k), -np.inf, np.float32)
        items = np.full((len(z), k), np.iinfo(np.int64).max, np.int64)
        buffer = np.empty((len(z), min(BLOCK, len(self))), np.float32)
        length = np.sqrt((z.astype(np.float64) ** 2).sum(1)) * (1 + ROUNDED)
        rows = np.arange(len(z))
        for norm, start in zip(self.norm, range(0, len(self), BLOCK), strict=True):
            near = length[rows] * norm >= values[rows, 0]
            if not near.all():  # norms fall and roots rise: what is closed stays so
                rows, z = rows[near], z[near]
                if not len(rows):
                    break
            stop = min(start + BLOCK, len(self))
            part = buffer[: len(rows), : stop - start]
            np.matmul(z, self.means[start:stop].T, out=part)
            scan(part, rows, values, items, self.order, start, mask)
        return ordered(values, items)

    def thompson(
        self,
        z: np.ndarray,
        k: int,
        seed: int,
        temperature: float = 1.0,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """The k best items (B, k) of an exact draw per row of z, their drawn scores, and how many were drawn.

        Raises:
            DataError: the index has no spreads, or fewer than k items may be shown.
        """
        if temperature == 0:
            items, values = self.top(z, k, allowed)
            return items, values, 0
        if self.square is None or self.ceiling is None:
            raise DataError("this index has no spreads; give them to draw.")
        z = np.ascontiguousarray(np.atleast_2d(z), dtype=np.float32)
        mask = self.mask(allowed, k)
        values = np.full((len(z), k), -np.inf, np.float32)
        items = np.full((len(z), k), np.iinfo(np.int64).max, np.int64)
        weight = np.ascontiguousarray((temperature * z) ** 2)
        buffer = np.empty((len(z), min(BLOCK, len(self))), np.float32)
        drawn = np.zeros(len(z), np.int64)
        for number, start in enumerate(range(0, len(self), BLOCK)):
            stop = min(start + BLOCK, len(self))
            part = buffer[:, : stop - start]
            np.matmul(z, self.means[start:stop].T, out=part)
            # one seed per block and call: the bits do not depend on how the work is shared out
            key = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) & (2**63 - 1)
            limit = np.sqrt(weight @ self.ceiling[number])
            full = start < FIRST_FULL
            thinned(
                part, weight, self.square, limit, values, items, self.order, start, mask, key, full, drawn
            )
        found, scores = ordered(values, items)
        return found, scores, int(drawn.sum())

    def mask(self, allowed: np.ndarray | None, k: int) -> np.ndarray:
        """Which rows of the table may enter, by place."""
        if allowed is None:
            if k > len(self):
                raise DataError(f"{k} items are asked for, the table has {len(self)}.")
            return np.ones(len(self), np.bool_)
        if allowed.shape != (len(self),):
            raise DataError(f"the filter has {allowed.shape} entries, the table {len(self)} items.")
        if int(allowed.sum()) < k:
            raise DataError(f"{k} items are asked for, {int(allowed.sum())} may be shown after the filters.")
        return np.ascontiguousarray(allowed[self.order])


def ordered(values: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best first, ties by number."""
    order = np.lexsort((items, -values), axis=1)
    return np.take_along_axis(items, order, 1), np.take_along_axis(values, order, 1)


@compiled(fastmath=False)
def worse(value: float, item: int, other: float, number: int) -> bool:
    """Whether (value, item) stands below (other, number): smaller, or level with a higher number."""
    return value < other or (value == other and item > number)


@compiled(fastmath=False)
def replace_root(values: np.ndarray, items: np.ndarray, value: float, item: int) -> None:
    """Put a better entry in place of the worst one, the root."""
    size, place = len(values), 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and worse(values[child + 1], items[child + 1], values[child], items[child]):
            child += 1
        if worse(value, item, values[child], items[child]):
            break
        values[place], items[place] = values[child], items[child]
        place = child
    values[place], items[place] = value, item


@compiled(fastmath={"reassoc", "nsz"})
def highest(row: np.ndarray, start: int, stop: int) -> float:
    """Largest of some columns."""
    best = row[start]
    for column in range(start + 1, stop):
        best = max(best, row[column])
    return best


@compiled(fastmath=False)
def scan(
    part: np.ndarray,
    users: np.ndarray,
    values: np.ndarray,
    items: np.ndarray,
    order: np.ndarray,
    start: int,
    mask: np.ndarray,
) -> None:
    """Put the scores (b, n) of a block into the heaps (B, k) of these users (b,)."""
    rows, width = part.shape
    for row in range(rows):
        own, heap, numbers = part[row], values[users[row]], items[users[row]]
        for first in range(0, width, STRIDE):
            last = min(first + STRIDE, width)
            if highest(own, first, last) < heap[0]:
                continue
            for column in range(first, last):
                item = order[start + column]
                if mask[start + column] and worse(heap[0], numbers[0], own[column], item):
                    replace_root(heap, numbers, own[column], item)


@compiled(fastmath=False)
def tail(x: float) -> float:
    """P(N > x)."""
    return 0.5 * math.erfc(x * 0.7071067811865476)


@compiled(fastmath=False)
def beyond(w: float) -> float:
    """A standard normal given that it exceeds w (Robert 1995)."""
    if w < 0.5:
        while True:
            x = np.random.standard_normal()  # noqa: NPY002
            if x > w:
                return x
    rate = 0.5 * (w + math.sqrt(w * w + 4))
    while True:
        x = w - math.log(1 - np.random.random()) / rate  # noqa: NPY002
        if np.random.random() <= math.exp(-0.5 * (x - rate) ** 2):  # noqa: NPY002
            return x


@compiled(fastmath=False)
def thinned(
    part: np.ndarray,
    weight: np.ndarray,
    square: np.ndarray,
    limit: np.ndarray,
    values: np.ndarray,
    items: np.ndarray,
    order: np.ndarray,
    start: int,
    mask: np.ndarray,
    key: int,
    full: bool,
    drawn: np.ndarray,
) -> None:
    """Draw the scores of a block that can enter the heaps, and put them in.

    Columns whose mean lies c bounds below the threshold exceed it with chance Q(c) at most, each on its own:
    how many do is geometric, so most of a block is passed over with one uniform.
    """
    np.random.seed(key & 0xFFFFFFFF)  # noqa: NPY002
    rows, width = part.shape
    dims = weight.shape[1]
    far = 4.5
    rare = math.log1p(-tail(far))
    for row in range(rows):
        own, heap, numbers = part[row], values[row], items[row]
        bound = max(limit[row], 1e-12)
        # places until the next far column whose noise exceeds `far` after all
        skip = int(math.log(1 - np.random.random()) / rare)  # noqa: NPY002
        for first in range(0, width, STRIDE):
            last = min(first + STRIDE, width)
            edge = heap[0] - far * bound
            if not full and highest(own, first, last) < edge:
                if skip >= last - first:
                    skip -= last - first
                    continue
            for column in range(first, last):
                close = full or own[column] >= edge
                lifted = False
                if not close:
                    lifted = skip == 0
                    skip -= 1
                    if lifted:
                        skip = int(math.log(1 - np.random.random()) / rare)  # noqa: NPY002
                    else:
                        continue
                if not mask[start + column]:
                    continue
                threshold = (heap[0] - own[column]) / bound
                if full or heap[0] == -np.inf:
                    noise = np.random.standard_normal()  # noqa: NPY002
                elif lifted:  # exceeds `far`; does it exceed its own threshold?
                    noise = beyond(far)
                    if noise <= threshold:
                        continue
                elif np.random.random() < tail(threshold):  # noqa: NPY002
                    noise = beyond(threshold)
                else:
                    continue
                drawn[row] += 1
                variance = 0.0
                for dim in range(dims):
                    variance += weight[row, dim] * square[start + column, dim]
                score = np.float32(own[column] + math.sqrt(variance) * noise)
                item = order[start + column]
                if worse(heap[0], numbers[0], score, item):  # pyright: ignore  (float32 of numba)
                    replace_root(heap, numbers, score, item)  # pyright: ignore
                    if not full:
                        edge = heap[0] - far * bound
