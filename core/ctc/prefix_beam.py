"""Prefix beam search: the most probable labellings, with exact merging of their alignments (Hannun 2014).

For each prefix l the beam keeps log p_b(l) and log p_nb(l), the mass of alignments that end in a blank and in
its last symbol. A frame y turns them into

    b'(l)    = (p_b(l) + p_nb(l)) y(blank)
    nb'(l)  += p_nb(l) y(last of l)
    nb'(lc) += X y(c),   X = p_b(l) if c is the last of l, else p_b(l) + p_nb(l)

and the prefixes are ranked by log(b' + nb') + alpha log P(l) + beta |l|. A prefix is a node of a trie, so two
ways to the same labelling meet in one node whatever the order. Pruning rules are
parameters, all off by default but the width.

    beam = PrefixBeam(width=25); beam.feed(frames[:10]); beam.feed(frames[10:]); beam.best(3)
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

NONE = -math.inf


class LanguageModel(Protocol):
    """Scores labels one at a time; a state is any hashable value."""

    def start(self) -> Hashable: ...

    def advance(self, state: Any, label: int) -> tuple[float, Any]:
        """Log-probability of a label after a state, and the state after it."""
        ...

    def end(self, state: Any) -> float:
        """Log-probability of the line ending here."""
        ...


class Constraint(Protocol):
    """A language over labels as an automaton; a state is any hashable value."""

    def start(self) -> Hashable: ...

    def step(self, state: Any, label: int) -> Any:
        """The state after a label, None where no allowed labelling begins like this."""
        ...

    def accepts(self, state: Any) -> bool: ...

    def bonus(self, state: Any) -> float:
        """Log score that a state adds to the rank and to the result (words that are unknown, a bigram)."""
        ...

    def final(self, state: Any) -> float:
        """Log score at the end of the line, in place of `bonus`; -inf where the line must not end."""
        ...


class Hypothesis(NamedTuple):
    """One labelling."""

    labels: tuple[int, ...]
    ctc: float
    """log p(labels | frames), the mass that the beam kept."""
    lm: float
    """log P of the language model, 0 without one."""
    score: float
    """What the list is sorted by."""
    frames: tuple[int, ...]
    """For each label the frame in which its prefix came into the beam for good."""


@dataclass
class Node:
    """A prefix of the beam."""

    parent: int
    label: int
    born: int
    length: int
    lm: float
    lm_state: Any
    rule: Any
    bonus: float
    children: dict[int, int] = field(default_factory=dict)


class PrefixBeam:
    """Feed frames in pieces of any size; the result is the same as from the whole.

    Args:
        width: prefixes that are kept.
        blank: label of the blank.
        lm: scores labels; alpha weighs it, beta is added for every label.
        rule: labellings that are allowed; None: all.
        top: symbols that may extend a prefix in a frame, the most probable ones; None: all.
        floor: symbols less probable than the best of the frame by this log factor do not extend; None: all.
        skip: frames whose blank has at least this log-probability extend nothing; None: never.
    """

    def __init__(
        self,
        width: int = 25,
        *,
        blank: int = 0,
        lm: LanguageModel | None = None,
        alpha: float = 0.0,
        beta: float = 0.0,
        rule: Constraint | None = None,
        top: int | None = None,
        floor: float | None = None,
        skip: float | None = None,
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        self.width, self.blank, self.lm, self.rule = width, blank, lm, rule
        self.alpha, self.beta, self.top, self.floor, self.skip = alpha, beta, top, floor, skip
        first = None if lm is None else lm.start()
        begun = None if rule is None else rule.start()
        bonus = 0.0 if rule is None else rule.bonus(begun)
        self.nodes: dict[int, Node] = {0: Node(-1, -1, -1, 0, 0.0, first, begun, bonus)}
        self.next_id = 1
        self.beam: dict[int, tuple[float, float]] = {0: (0.0, NONE)}
        self.frames = 0

    def feed(self, log_probs: np.ndarray) -> None:
        """Take in frames (T, V) of log-probabilities.

        Raises:
            ValueError: not a matrix.
        """
        log_probs = np.asarray(log_probs, dtype=np.float64)
        if log_probs.ndim != 2:
            raise ValueError(f"a beam expects log-probabilities (T, V), got {log_probs.shape}")
        for frame in log_probs:
            self.advance(frame)

    def advance(self, frame: np.ndarray) -> None:
        """One frame (V,)."""
        y = frame.tolist()
        blank = y[self.blank]
        symbols = [] if self.skip is not None and blank >= self.skip else self.symbols(frame)
        grown: dict[int, list[float]] = {}
        nodes = self.nodes
        for key, (b, nb) in self.beam.items():
            node = nodes[key]
            total = log_add(b, nb)
            own = grown.setdefault(key, [NONE, NONE])
            own[0] = log_add(own[0], total + blank)
            if node.label >= 0:
                own[1] = log_add(own[1], nb + y[node.label])
            for label in symbols:
                mass = (b if label == node.label else total) + y[label]
                if mass == NONE:
                    continue
                child = self.child(key, node, label)
                if child is not None:
                    entry = grown.setdefault(child, [NONE, NONE])
                    entry[1] = log_add(entry[1], mass)
        self.frames += 1
        self.keep(grown)
        if self.frames % 64 == 0:
            self.forget()

    def symbols(self, frame: np.ndarray) -> list[int]:
        """Labels that may extend a prefix in this frame."""
        chosen = np.arange(len(frame))
        if self.top is not None and self.top + 1 < len(frame):
            chosen = np.argpartition(frame, -self.top - 1)[-self.top - 1 :]
        if self.floor is not None:
            chosen = chosen[frame[chosen] >= frame.max() - self.floor]
        chosen = chosen[np.isfinite(frame[chosen])]
        return [int(label) for label in np.sort(chosen) if label != self.blank]

    def child(self, key: int, node: Node, label: int) -> int | None:
        """The node of a prefix and one more label, None where the rule forbids it."""
        if label in node.children:
            return node.children[label]
        rule, bonus = None, 0.0
        if self.rule is not None:
            rule = self.rule.step(node.rule, label)
            if rule is None:
                return None
            bonus = self.rule.bonus(rule)
        lm, state = node.lm, None
        if self.lm is not None:
            gained, state = self.lm.advance(node.lm_state, label)
            lm += gained
        made = self.next_id
        self.next_id += 1
        self.nodes[made] = Node(key, label, self.frames, node.length + 1, lm, state, rule, bonus)
        node.children[label] = made
        return made

    def rank(self, key: int, mass: float) -> float:
        node = self.nodes[key]
        return mass + self.alpha * node.lm + self.beta * node.length + node.bonus

    def keep(self, grown: dict[int, list[float]]) -> None:
        """The best prefixes become the beam; ties go to the older one."""
        if len(grown) > self.width:
            ranked = sorted(grown, key=lambda key: (-self.rank(key, log_add(*grown[key])), key))
            grown = {key: grown[key] for key in ranked[: self.width]}
        self.beam = {key: (b, nb) for key, (b, nb) in grown.items()}

    def forget(self) -> None:
        """Drop the nodes that no prefix of the beam begins with."""
        alive: set[int] = {0}
        for key in self.beam:
            while key > 0 and key not in alive:
                alive.add(key)
                key = self.nodes[key].parent
        self.nodes = {key: node for key, node in self.nodes.items() if key in alive}
        for node in self.nodes.values():
            node.children = {label: key for label, key in node.children.items() if key in alive}

    def best(self, count: int = 1) -> list[Hypothesis]:
        """The best labellings if the line ended here, best first; the state does not change."""
        found = []
        for key, (b, nb) in self.beam.items():
            node = self.nodes[key]
            ctc, bonus = log_add(b, nb), 0.0
            if self.rule is not None:
                bonus = self.rule.final(node.rule) if self.rule.accepts(node.rule) else NONE
            lm = node.lm if self.lm is None else node.lm + self.lm.end(node.lm_state)
            score = ctc + self.alpha * lm + self.beta * node.length + bonus
            if score > NONE:
                found.append((score, key, ctc, lm))
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        answers = []
        for score, key, ctc, lm in found[:count]:
            labels, frames = self.spelled(key)
            answers.append(Hypothesis(labels, ctc, lm, score, frames))
        return answers

    def spelled(self, key: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Labels and birth frames of a prefix."""
        labels, born = [], []
        while key > 0:
            node = self.nodes[key]
            labels.append(node.label)
            born.append(node.born)
            key = node.parent
        return tuple(labels[::-1]), tuple(born[::-1])


def log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b == NONE else a + math.log1p(math.exp(b - a))


def prefix_beam(log_probs: np.ndarray, width: int = 25, count: int = 1, **options: Any) -> list[Hypothesis]:
    """The best `count` labellings of log-probabilities (T, V)."""
    beam = PrefixBeam(width, **options)
    beam.feed(log_probs)
    return beam.best(count)
