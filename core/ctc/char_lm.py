"""A character n-gram model: interpolated modified Kneser-Ney (Chen & Goodman 1998), trained and stored here.

Counts: of the highest order c(k) = how often the n-gram k stands in the lines; below it c(k) = how many
different symbols stand in front of k, but n-grams that begin with <s> keep raw counts. A line is <s>, its
characters, </s>; the unigram <s> is dropped. Per order, t_i = n-grams of count i:

    Y = t1 / (t1 + 2 t2),  D1 = 1 - 2 Y t2/t1,  D2 = 2 - 3 Y t3/t2,  D3+ = 3 - 4 Y t4/t3

(0.5, 1, 1.5 where a t_i is 0 or a D outside [0, i]). With h the history and h' the same without its oldest
symbol

    P(w|h) = max(c(hw) - D(c), 0) / sum_v c(hv) + g(h) P(w|h')
    g(h)   = (D1 n1(h) + D2 n2(h) + D3 n3+(h)) / sum_v c(hv)

and below the unigrams 1/|V|, V with </s> and <unk>. As back-off model: P of a kept n-gram as it is, else
g(h) P(w|h').
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.door import arrays
from core.errors import ConfigError, DataError
from core.files import read_bytes

BEGIN, END, UNKNOWN, SPACE = "<s>", "</s>", "<unk>", "<space>"
Gram = tuple[str, ...]
LARGEST = 64 << 20
"""Bytes of a stored model, also when it is unpacked; five characters of a language have two million."""
LN10 = math.log(10.0)


@dataclass(frozen=True)
class CharLM:
    """P(symbol | up to order - 1 symbols before it), as a back-off model in natural logarithms."""

    order: int
    scores: Mapping[Gram, float]
    """ln P of kept n-grams of every order."""
    backoffs: Mapping[Gram, float]
    """ln g(h) of histories that have followers; absent: 0."""
    discounts: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", {})

    @property
    def vocabulary(self) -> list[str]:
        """Every symbol, sorted, with </s> and <unk>."""
        return sorted(gram[0] for gram in self.scores if len(gram) == 1 and gram[0] != BEGIN)

    @property
    def counts(self) -> list[int]:
        """n-grams of each order."""
        sizes = [0] * self.order
        for gram in self.scores:
            sizes[len(gram) - 1] += 1
        return sizes

    def symbol(self, text: str) -> str:
        """A character as the model knows it."""
        return text if (text,) in self.scores else UNKNOWN

    def log_p(self, history: Sequence[str], symbol: str) -> float:
        """ln P(symbol | history); of the history the last order - 1 symbols count."""
        context = tuple(history)[max(0, len(history) - self.order + 1) :]
        penalty = 0.0
        while (*context, symbol) not in self.scores:
            if not context:
                return penalty + self.scores[(UNKNOWN,)]
            penalty += self.backoffs.get(context, 0.0)
            context = context[1:]
        return penalty + self.scores[(*context, symbol)]

    def start(self) -> Gram:
        """The state before the first character."""
        return (BEGIN,)

    def advance(self, state: Gram, character: str) -> tuple[float, Gram]:
        """ln P of a character and the state after it; states that cannot differ any more are equal."""
        cache: dict[tuple[Gram, str], tuple[float, Gram]] = self.cache  # pyright: ignore[reportAttributeAccessIssue]
        known = cache.get((state, character))
        if known is None:
            symbol = self.symbol(character)
            after = (*state, symbol)[-self.order + 1 :] if self.order > 1 else ()
            while after and after not in self.backoffs:
                after = after[1:]
            known = self.log_p(state, symbol), after
            if len(cache) > 500_000:
                cache.clear()
            cache[state, character] = known
        return known

    def end(self, state: Gram) -> float:
        """ln P of the line ending after a state."""
        return self.advance(state, END)[0] if (END,) in self.scores else 0.0

    def line(self, text: str) -> float:
        """ln P of a whole line, its end included."""
        state, total = self.start(), 0.0
        for character in text:
            gained, state = self.advance(state, character)
            total += gained
        return total + self.end(state)

    def perplexity(self, lines: Iterable[str]) -> float:
        """Per symbol, the ends of the lines counted as symbols."""
        lines = list(lines)
        symbols = sum(len(line) + 1 for line in lines)
        return math.exp(-sum(self.line(line) for line in lines) / symbols)


def train_char_lm(lines: Iterable[str], order: int = 6) -> CharLM:
    """The model of the lines' characters.

    Raises:
        ConfigError: an order outside 1..10, or no line.
    """
    if not 1 <= order <= 10:
        raise ConfigError(f"the order of a character model is 1 to 10, got {order}.")
    sentences = [(BEGIN, *line, END) for line in lines]
    if not sentences:
        raise ConfigError("a character model needs at least one line.")
    counts = adjusted_counts(sentences, order)
    discounts = tuple(discounts_of(table) for table in counts)
    vocabulary = {gram[0] for gram in counts[0]} | {UNKNOWN}
    scores: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    lower: dict[Gram, float] = {}
    for n, (table, found) in enumerate(zip(counts, discounts, strict=True), 1):
        totals: dict[Gram, float] = defaultdict(float)
        freed: dict[Gram, float] = defaultdict(float)
        for gram, count in table.items():
            totals[gram[:-1]] += count
            freed[gram[:-1]] += found[min(count, 3) - 1]
        kept = {}
        if n == 1:
            share = freed[()] / totals[()]
            for symbol in vocabulary:
                count = table.get((symbol,), 0)
                mine = max(count - found[min(count, 3) - 1], 0.0) if count else 0.0
                kept[(symbol,)] = mine / totals[()] + share / len(vocabulary)
        else:
            for gram, count in table.items():
                total = totals[gram[:-1]]
                below = lower_probability(gram[1:], lower, backoffs)
                kept[gram] = (
                    max(count - found[min(count, 3) - 1], 0.0) / total + freed[gram[:-1]] / total * below
                )
            backoffs |= {
                history: math.log(freed[history] / total) if freed[history] > 0 else -math.inf
                for history, total in totals.items()
            }
        lower |= kept
    scores = {gram: math.log(p) if p > 0 else -math.inf for gram, p in lower.items()}
    scores[(BEGIN,)] = -99 * LN10
    return CharLM(order, scores, backoffs, discounts)


def lower_probability(gram: Gram, kept: Mapping[Gram, float], backoffs: Mapping[Gram, float]) -> float:
    """P of an n-gram of the order below: kept, since whatever has a higher order has a lower one too."""
    penalty = 0.0
    while gram not in kept:
        penalty += backoffs.get(gram[:-1], 0.0)
        gram = gram[1:]
    return math.exp(penalty) * kept[gram]


def adjusted_counts(sentences: Sequence[Gram], order: int) -> list[dict[Gram, int]]:
    """Counts of orders 1 to `order`: raw at the top and behind <s>, else of different predecessors."""
    raw: list[dict[Gram, int]] = [defaultdict(int) for _ in range(order)]
    for sentence in sentences:
        for n in range(1, order + 1):
            for start in range(len(sentence) - n + 1):
                raw[n - 1][sentence[start : start + n]] += 1
    counts = []
    for n in range(1, order):
        table: dict[Gram, int] = defaultdict(int)
        for gram in raw[n]:  # one entry for each different symbol in front
            table[gram[1:]] += 1
        for gram, count in raw[n - 1].items():
            if gram[0] == BEGIN:
                table[gram] = count
        counts.append(dict(table))
    counts.append(dict(raw[order - 1]))
    counts[0].pop((BEGIN,), None)
    return counts


def discounts_of(table: Mapping[Gram, int]) -> tuple[float, float, float]:
    """D1, D2, D3+ of an order."""
    t = [0] * 5
    for count in table.values():
        if count <= 4:
            t[count] += 1
    if not all(t[1:]):
        return 0.5, 1.0, 1.5
    y = t[1] / (t[1] + 2 * t[2])
    found = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
    if any(not 0 <= d <= k for k, d in enumerate(found, 1)):
        return 0.5, 1.0, 1.5
    return found  # pyright: ignore[reportReturnType]


def to_arpa(model: CharLM) -> str:
    """The model as ARPA text: log10, seven decimals, a space written <space>."""
    orders: list[list[Gram]] = [[] for _ in range(model.order)]
    for gram in sorted(model.scores):
        orders[len(gram) - 1].append(gram)
    lines = ["\\data\\", *[f"ngram {n}={len(grams)}" for n, grams in enumerate(orders, 1)]]
    for n, grams in enumerate(orders, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            score = -99.0 if gram == (BEGIN,) else model.scores[gram] / LN10
            words = " ".join(SPACE if symbol == " " else symbol for symbol in gram)
            row = f"{score:.7f}\t{words}"
            if n < model.order and gram in model.backoffs:
                row += f"\t{model.backoffs[gram] / LN10:.7f}"
            lines.append(row)
    return "\n".join([*lines, "", "\\end\\", ""])


def from_arpa(text: str) -> CharLM:
    """A model from ARPA text.

    Raises:
        DataError: not ARPA, or a line that is none of it.
    """
    scores: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    order, inside = 0, False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.rstrip("\r\n")
        if line.startswith("\\") and line.endswith("-grams:"):
            try:
                order = int(line[1:-7])
            except ValueError:
                raise DataError(f"ARPA line {number}: {line!r} names no order.") from None
            inside = True
        elif line.startswith("\\") or not line.strip():
            inside = inside and not line.startswith("\\")
        elif inside:
            parts = line.split("\t") if "\t" in line else line.split()
            words = parts[1].split() if "\t" in line else parts[1 : 1 + order]
            rest = parts[2:] if "\t" in line else parts[1 + order :]
            try:
                score, back = float(parts[0]), float(rest[0]) if rest else None
            except (ValueError, IndexError):
                raise DataError(f"ARPA line {number}: no log-probability in {line[:60]!r}.") from None
            if not (math.isfinite(score) and math.isfinite(back or 0.0)):
                raise DataError(f"ARPA line {number}: a log-probability that is not finite.")
            if len(words) != order:
                raise DataError(f"ARPA line {number}: {len(words)} symbols in the section of order {order}.")
            gram = tuple(" " if word == SPACE else word for word in words)
            scores[gram] = score * LN10
            if back is not None:
                backoffs[gram] = back * LN10
    if not order or (UNKNOWN,) not in scores:
        raise DataError("not an ARPA model of characters: no n-grams, or no <unk>.")
    return CharLM(order, scores, backoffs)


def save_char_lm(path: str | Path, model: CharLM) -> None:
    """Write a compact binary: n-grams sorted as a tree of symbols, scores in half precision."""
    from core.files import whole_file

    grams = sorted(model.scores, key=lambda gram: (len(gram), gram))
    symbols = sorted({symbol for gram in grams for symbol in gram})
    number = {symbol: i for i, symbol in enumerate(symbols)}
    arrays: dict[str, Any] = {"order": np.int64(model.order), "symbols": np.array(symbols)}
    for n in range(1, model.order + 1):
        own = [gram for gram in grams if len(gram) == n]
        places = {gram: i for i, gram in enumerate(g for g in grams if len(g) == n - 1)}
        arrays[f"last{n}"] = np.array([number[gram[-1]] for gram in own], np.uint16)
        if n > 1:  # how many followers each shorter n-gram has: the sorted order tells which they are
            followers = np.zeros(len(places), np.int64)
            for gram in own:
                followers[places[gram[:-1]]] += 1
            arrays[f"followers{n}"] = followers.astype(np.uint16)
        arrays[f"score{n}"] = np.array([max(model.scores[gram], -300) for gram in own], np.float16)
        if n < model.order:
            back = [model.backoffs.get(gram, np.nan) for gram in own]
            arrays[f"backoff{n}"] = np.array(back, np.float16)
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_char_lm(path: str | Path) -> CharLM:
    """A model from our binary or from an ARPA file.

    Raises:
        DataError: missing, damaged, or neither.
    """
    path = Path(path)
    data = read_bytes(path, LARGEST, unpack=False)
    if data[:2] != b"PK":
        try:
            return from_arpa(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise DataError(f"{path}: neither a binary of ours nor ARPA text.") from None
    try:
        return unpacked(arrays(data, path, largest=LARGEST, error=DataError))
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{path}: a damaged character model ({type(error).__name__}).") from error


def unpacked(arrays: Mapping[str, np.ndarray]) -> CharLM:
    """The model of stored arrays."""
    symbols = [str(symbol) for symbol in arrays["symbols"]]
    order = int(arrays["order"])
    scores: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    shorter: list[Gram] = [()]
    for n in range(1, order + 1):
        last = arrays[f"last{n}"].tolist()
        counts = [len(last)] if n == 1 else arrays[f"followers{n}"].tolist()
        if sum(counts) != len(last) or len(counts) != len(shorter) or min(counts, default=0) < 0:
            raise ValueError("counts do not fit")
        if not np.isfinite(arrays[f"score{n}"]).all():
            raise ValueError("a log-probability that is not finite")
        parents = [gram for gram, count in zip(shorter, counts, strict=True) for _ in range(count)]
        own = [(*gram, symbols[i]) for gram, i in zip(parents, last, strict=True)]
        scores |= dict(zip(own, arrays[f"score{n}"].astype(np.float64).tolist(), strict=True))
        if n < order:
            back = arrays[f"backoff{n}"].astype(np.float64).tolist()
            backoffs |= {gram: b for gram, b in zip(own, back, strict=True) if b == b}
        shorter = own
    return CharLM(order, scores, backoffs)
