"""Languages over labels for the prefix beam: allowed characters, fixed length, regular expressions.

The answer is the best labelling in the language; log p is the full CTC sum of that labelling. Frames are
never renormalised: a forbidden symbol simply extends nothing.
"""

import math
import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any

from core.errors import ConfigError

MOST_STATES = 10_000


class Automaton:
    """A deterministic automaton: `moves[state][label]` is the next state; missing means dead."""

    def __init__(self, moves: Sequence[dict[int, int]], accepting: Collection[int]) -> None:
        self.moves, self.accepting = moves, frozenset(accepting)

    def start(self) -> int:
        return 0

    def step(self, state: int, label: int) -> int | None:
        return self.moves[state].get(label)

    def accepts(self, state: int) -> bool:
        return state in self.accepting

    def bonus(self, state: int) -> float:
        return 0.0

    def final(self, state: int) -> float:
        return 0.0 if state in self.accepting else -math.inf

    def shortest(self) -> int | None:
        """Labels of the shortest accepted labelling; None: there is none."""
        seen, ring, length = {0}, [0], 0
        while ring:
            if any(state in self.accepting for state in ring):
                return length
            ring = sorted({after for state in ring for after in self.moves[state].values()} - seen)
            seen.update(ring)
            length += 1
        return None


def only(labels: Collection[int]) -> Automaton:
    """Any labelling of these labels."""
    return Automaton([dict.fromkeys(labels, 0)], [0])


def of_length(count: int, labels: Collection[int]) -> Automaton:
    """Labellings of exactly so many of these labels."""
    if count < 0:
        raise ConfigError(f"a length is not negative, got {count}.")
    return Automaton([*(dict.fromkeys(labels, i + 1) for i in range(count)), {}], [count])


def regular(expression: str, symbols: Sequence[str], first_label: int = 1) -> Automaton:
    """Labellings whose text matches the whole expression; `symbols[i]` has label `first_label + i`.

    Literals, `.`, classes `[a-z]` and `[^..]`, `\\d \\w \\s`, groups, `|`, `* + ?` and `{m,n}`.

    Raises:
        ConfigError: not such an expression, nothing matches it, or more than 10,000 states.
    """
    pieces = Parser(expression, symbols).parsed()
    automaton = determined(*pieces, len(symbols), first_label)
    if automaton.shortest() is None:
        raise ConfigError(f"no text of this alphabet matches {expression!r}.")
    return automaton


class Parser:
    """A regular expression -> a nondeterministic automaton with empty moves (Thompson 1968)."""

    def __init__(self, expression: str, symbols: Sequence[str]) -> None:
        self.text, self.at, self.symbols = expression, 0, symbols
        self.moves: list[list[tuple[frozenset[int] | None, int]]] = []

    def parsed(self) -> tuple[list[list[tuple[frozenset[int] | None, int]]], int, int]:
        """Moves, first and last state."""
        begin, end = self.alternatives()
        if self.at < len(self.text):
            raise self.wrong(f"{self.text[self.at]!r} does not belong at place {self.at}")
        return self.moves, begin, end

    def wrong(self, why: str) -> ConfigError:
        return ConfigError(f"the expression {self.text!r} cannot be read: {why}.")

    def state(self) -> int:
        self.moves.append([])
        if len(self.moves) > 20 * MOST_STATES:
            raise self.wrong("it is too large")
        return len(self.moves) - 1

    def link(self, a: int, b: int, labels: frozenset[int] | None = None) -> None:
        self.moves[a].append((labels, b))

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def alternatives(self) -> tuple[int, int]:
        begin, end = self.state(), self.state()
        while True:
            a, b = self.series()
            self.link(begin, a)
            self.link(b, end)
            if self.peek() != "|":
                return begin, end
            self.at += 1

    def series(self) -> tuple[int, int]:
        begin = end = self.state()
        while self.peek() not in ("", "|", ")"):
            a, b = self.repeated()
            self.link(end, a)
            end = b
        return begin, end

    def repeated(self) -> tuple[int, int]:
        begun = self.at
        a, b = self.atom()
        written = self.text[begun : self.at]
        while self.peek() and self.peek() in "*+?{":
            mark = self.text[self.at]
            if mark == "{":
                found = re.match(r"\{(\d+)(,?)(\d*)\}", self.text[self.at :])
                if not found:
                    raise self.wrong(f"a count such as {{2,4}} was expected at place {self.at}")
                self.at += found.end()
                low = int(found[1])
                high = None if found[2] and not found[3] else int(found[3] or low)
                if max(low, high or 0) > 1000 or (high is not None and high < low):
                    raise self.wrong(f"counts {found[0]} are not low to high, or above 1000")
                a, b = self.counted(written, low, high)
                continue
            self.at += 1
            begin, end = self.state(), self.state()
            self.link(begin, a)
            self.link(b, end)
            if mark in "*?":
                self.link(begin, end)
            if mark in "*+":
                self.link(b, a)
            a, b = begin, end
        return a, b

    def counted(self, written: str, low: int, high: int | None) -> tuple[int, int]:
        """Copies of an atom, the last ones optional."""
        after = self.at
        begin = end = self.state()
        for number in range(low if high is None else high):
            a, b = self.again(written)
            self.link(end, a)
            if number >= low:
                self.link(a, b)
            end = b
        if high is None:
            a, b = self.again(written)
            last = self.state()
            self.link(end, a)
            self.link(end, last)
            self.link(b, a)
            self.link(b, last)
            end = last
        if high is not None and high == 0:
            end = begin
        self.at = after
        return begin, end

    def again(self, written: str) -> tuple[int, int]:
        """Another copy of an atom that was read before."""
        text, at = self.text, self.at
        self.text, self.at = written, 0
        try:
            return self.atom()
        finally:
            self.text, self.at = text, at

    def atom(self) -> tuple[int, int]:
        mark = self.text[self.at]
        if mark == "(":
            self.at += 1
            if self.text.startswith("?:", self.at):
                self.at += 2
            a, b = self.alternatives()
            if self.peek() != ")":
                raise self.wrong("a bracket is not closed")
            self.at += 1
            return a, b
        if mark in "*+?{":
            raise self.wrong(f"there is nothing before {mark!r} to repeat")
        a, b = self.state(), self.state()
        self.link(a, b, self.labels())
        return a, b

    def labels(self) -> frozenset[int]:
        """Indices of the symbols that an atom means."""
        mark = self.text[self.at]
        self.at += 1
        if mark == ".":
            return frozenset(range(len(self.symbols)))
        if mark == "\\":
            return self.matching(self.escaped())
        if mark != "[":
            return self.matching(re.escape(mark))
        end = self.text.find("]", self.at + (2 if self.text.startswith("^", self.at) else 1))
        while end > 0 and self.text[end - 1] == "\\":
            end = self.text.find("]", end + 1)
        if end < 0:
            raise self.wrong("a class [..] is not closed")
        content = self.text[self.at - 1 : end + 1]
        self.at = end + 1
        return self.matching(content)

    def escaped(self) -> str:
        if not self.peek():
            raise self.wrong("it ends in a backslash")
        mark = self.text[self.at]
        self.at += 1
        return f"\\{mark}" if mark in "dDwWsS" else re.escape(mark)

    def matching(self, piece: str) -> frozenset[int]:
        try:
            with warnings.catch_warnings():  # `[[]` means what it does today, whatever Python plans
                warnings.simplefilter("ignore", FutureWarning)
                pattern = re.compile(piece, re.DOTALL)
        except re.error as error:
            raise self.wrong(str(error)) from None
        return frozenset(i for i, symbol in enumerate(self.symbols) if pattern.fullmatch(symbol))


def determined(
    moves: Sequence[Sequence[tuple[frozenset[int] | None, int]]],
    begin: int,
    end: int,
    symbols: int,
    first_label: int,
) -> Automaton:
    """The subset construction, without states from which nothing is accepted."""

    def closed(states: set[int]) -> frozenset[int]:
        todo = list(states)
        while todo:
            for labels, after in moves[todo.pop()]:
                if labels is None and after not in states:
                    states.add(after)
                    todo.append(after)
        return frozenset(states)

    numbers = {closed({begin}): 0}
    table: list[dict[int, int]] = []
    todo = list(numbers)
    for subset in todo:
        reached: dict[int, set[int]] = {}
        for state in subset:
            for labels, after in moves[state]:
                for label in labels or ():
                    reached.setdefault(label, set()).add(after)
        row = {}
        for label in sorted(reached):
            target = closed(reached[label])
            if target not in numbers:
                if len(numbers) >= MOST_STATES:
                    raise ConfigError(f"the expression needs more than {MOST_STATES:,} states.")
                numbers[target] = len(numbers)
                todo.append(target)
            row[first_label + label] = numbers[target]
        table.append(row)
    accepting = {number for subset, number in numbers.items() if end in subset}
    alive = set(accepting)
    backward: dict[int, set[int]] = {}
    for state, row in enumerate(table):
        for after in row.values():
            backward.setdefault(after, set()).add(state)
    spread: list[Any] = list(alive)
    while spread:
        for before in backward.get(spread.pop(), ()):
            if before not in alive:
                alive.add(before)
                spread.append(before)
    kept = [{label: after for label, after in row.items() if after in alive} for row in table]
    return Automaton(kept, accepting)
