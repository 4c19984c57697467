"""A closed or open vocabulary of words as a tree, and word models on it, for the prefix beam.

Characters split into word characters and separators; a maximal run of word characters is a word. Closed:
every word of the line is in the vocabulary. Open: a word that is not costs `unknown` once. With a bigram
model each finished word adds alpha log P(word | previous word), P add-k smoothed over the vocabulary,
previous = start of line at first. `forecast` ranks an unfinished word by alpha log of the summed P of the
words still in reach; the final score stays the same.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from core.errors import ConfigError


class WordState(NamedTuple):
    """Where in a line a labelling stands."""

    node: int
    """In the tree; BETWEEN words, or in an UNKNOWN one."""
    previous: int
    """The last finished word, counted from 1; 0 at the start of the line."""
    score: float
    """Of the finished words."""


BETWEEN, UNKNOWN = -1, -2


@dataclass(frozen=True)
class Bigram:
    """P(word | previous) from counts (words + 1, words); row 0 is the start of the line."""

    counts: np.ndarray
    add_k: float = 1.0
    logs: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.float64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] + 1 or self.add_k <= 0:
            raise ConfigError(f"bigram counts are (words + 1, words) and add_k positive; got {counts.shape}.")
        smooth = counts + self.add_k
        object.__setattr__(self, "logs", np.log(smooth / smooth.sum(1, keepdims=True)))

    @classmethod
    def of(cls, lines: Sequence[Sequence[str]], words: Sequence[str], add_k: float = 1.0) -> "Bigram":
        """Counted in lines of words; unknown words stand for nothing and break the chain."""
        number = {word: i for i, word in enumerate(words)}
        counts = np.zeros((len(words) + 1, len(words)))
        for line in lines:
            previous = 0
            for word in line:
                if word in number:
                    counts[previous, number[word]] += 1
                previous = number.get(word, -1) + 1
        return cls(counts, add_k)


class Words:
    """The rule of a vocabulary.

    Args:
        labels: label of each character.
        words: the vocabulary, in the order of the bigram's columns.
        word_characters: characters that words are made of.
        unknown: log cost of a word outside the vocabulary; None: closed, there is none.
        bigram, alpha: word model and its weight.
        mode: "words" without a model; "n-grams" adds it when a word ends; the forecasts also
            rank unfinished words by what they may become, with sample by the most frequent ones.

    Raises:
        ConfigError: a word with a character outside the alphabet or the word characters, or no word.
    """

    def __init__(
        self,
        labels: Mapping[str, int],
        words: Sequence[str],
        word_characters: Collection[str],
        *,
        unknown: float | None = None,
        bigram: Bigram | None = None,
        alpha: float = 1.0,
        mode: Literal["words", "n-grams", "forecast", "forecast+sample"] = "words",
        sample: int = 20,
    ) -> None:
        if not words:
            raise ConfigError("a lexicon needs at least one word.")
        if mode != "words" and bigram is None:
            raise ConfigError(f"the mode {mode!r} needs a word model.")
        self.inside = {labels[c] for c in word_characters if c in labels}
        self.unknown, self.alpha, self.mode, self.sample = unknown, alpha, mode, sample
        self.bigram = bigram if mode != "words" else None
        self.children: list[dict[int, int]] = [{}]
        self.ends: list[int] = [0]  # number of the word that ends here, from 1
        self.below: list[list[int]] = [[]]  # words still in reach
        for number, word in enumerate(words, 1):
            self.plant(number, word, labels)
        if bigram is not None:
            frequency = bigram.counts.sum(0)
            for reach in self.below:
                reach.sort(key=lambda word: (-frequency[word - 1], word))
        self.sums: dict[tuple[int, int], float] = {}

    def plant(self, number: int, word: str, labels: Mapping[str, int]) -> None:
        """Put a word into the tree."""
        strange = sorted({c for c in word if c not in labels or labels[c] not in self.inside})
        if strange or not word:
            raise ConfigError(f"the word {word!r} has characters outside the alphabet: {' '.join(strange)}.")
        node = 0
        for character in word:
            self.below[node].append(number)
            label = labels[character]
            if label not in self.children[node]:
                self.children[node][label] = len(self.children)
                self.children.append({})
                self.ends.append(0)
                self.below.append([])
            node = self.children[node][label]
        self.below[node].append(number)
        self.ends[node] = number

    def start(self) -> WordState:
        return WordState(BETWEEN, 0, 0.0)

    def step(self, state: WordState, label: int) -> WordState | None:
        if label not in self.inside:
            return self.finished(state)
        node = 0 if state.node == BETWEEN else state.node
        after = UNKNOWN if node == UNKNOWN else self.children[node].get(label, UNKNOWN)
        if after == UNKNOWN and self.unknown is None:
            return None
        return WordState(after, state.previous, state.score)

    def finished(self, state: WordState) -> WordState | None:
        """After the word that may have been going on; None where it must not end."""
        if state.node == BETWEEN:
            return state
        word = self.ends[state.node] if state.node >= 0 else 0
        if not word:
            if self.unknown is None:
                return None
            return WordState(BETWEEN, 0, state.score + self.unknown)
        gained = 0.0 if self.bigram is None else self.alpha * self.bigram.logs[state.previous, word - 1]
        return WordState(BETWEEN, word, state.score + float(gained))

    def accepts(self, state: WordState) -> bool:
        return self.finished(state) is not None

    def final(self, state: WordState) -> float:
        done = self.finished(state)
        return -math.inf if done is None else done.score

    def bonus(self, state: WordState) -> float:
        if self.bigram is None or state.node < 0 or not self.mode.startswith("forecast"):
            return state.score
        key = (state.node, state.previous)
        if key not in self.sums:
            reach = self.below[state.node]
            if self.mode == "forecast+sample":
                reach = reach[: self.sample]
            logs = self.bigram.logs[state.previous, np.array(reach) - 1]
            self.sums[key] = float(np.logaddexp.reduce(logs))
        return state.score + self.alpha * self.sums[key]
