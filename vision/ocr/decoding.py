"""Log-probabilities of a line -> labels, with whatever a person knows about the text."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from core.ctc.char_lm import CharLM
from core.ctc.compiled_beam import LabelModel, fast_beam, label_model
from core.ctc.constraints import Automaton, of_length, only, regular
from core.ctc.exact import label_score
from core.ctc.greedy import greedy
from core.ctc.lexicon import Bigram, Words
from core.ctc.prefix_beam import Hypothesis, PrefixBeam
from core.errors import ConfigError, DataError
from vision.ocr.codec import Codec, clean

WordMode = Literal["words", "n-grams", "forecast", "forecast+sample"]
MODES = get_args(WordMode)
FLOOR = 10.0
"""Symbols less probable than the best of a frame by this factor (log) do not extend a prefix."""
WEAKER = 0.3
"""What is left of the weight and bonus of a character model that does not know this kind of text."""
SURE = float(np.log(0.9999))
"""Frames whose blank is surer extend nothing."""


@dataclass(frozen=True)
class Decoding:
    """How frames become text. Nothing set: the best label of each frame.

    Only one of allow and deny, regex, digits, choices, lexicon rules the text.
    """

    lm: CharLM | None = None
    lm_weight: float = 0.6
    lm_bonus: float = 1.2
    lm_doubt: float | None = None  # nats a character: a model that finds its answer less likely counts less
    beam: int = 25
    top: int | None = 12
    alternatives: int = 0
    allow: str | None = None
    deny: str | None = None
    regex: str | None = None
    digits: int | None = None
    choices: tuple[str, ...] = ()
    lexicon: tuple[str, ...] = ()
    words: WordMode = "words"  # how a lexicon is searched, see core.ctc.lexicon
    word_texts: tuple[str, ...] = ()  # lines in which pairs of words are counted; with them comes a lexicon
    word_weight: float = 1.0  # of the word model
    unknown_word: float | None = None  # log cost of a word outside the lexicon; None: there is none

    def __post_init__(self) -> None:
        rules = [self.regex, self.digits, self.choices or None, self.lexicon or None]
        if sum(rule is not None for rule in rules) > 1:
            raise ConfigError("regex, digits, choices and lexicon exclude each other.")
        if not (0 <= self.lm_weight < math.inf and 0 <= self.word_weight < math.inf):
            raise ConfigError("weights of a character or word model must not be negative, and be finite.")
        if not math.isfinite(self.lm_bonus):
            raise ConfigError(f"the bonus of a character must be finite, got {self.lm_bonus}.")
        if self.words not in MODES:
            raise ConfigError(f"no way {self.words!r} to search words; there are {', '.join(MODES)}.")
        if self.unknown_word is not None and not self.unknown_word <= 0:
            raise ConfigError(f"an unknown word costs: a log of 0 or less, got {self.unknown_word}.")
        if not self.lexicon and (self.words != "words" or self.word_texts or self.unknown_word is not None):
            raise ConfigError("how words are searched is said of a lexicon; give one.")
        if (self.words != "words") != bool(self.word_texts):
            raise ConfigError("n-grams and forecasts of words need texts to count them in, and only they do.")
        if self.beam < 1 or self.alternatives < 0 or (self.top is not None and self.top < 1):
            raise ConfigError("beam and top must be positive, alternatives not negative.")

    @property
    def plain(self) -> bool:
        """Whether the best label of each frame is all that is asked for."""
        ruled = self.regex or self.digits is not None or self.choices or self.lexicon
        limited = self.allow is not None or self.deny is not None
        return self.lm is None and not ruled and not limited and not self.alternatives


class Letters:
    """A character model that is asked in labels."""

    def __init__(self, lm: CharLM, codec: Codec) -> None:
        self.lm, self.symbols = lm, codec.symbols

    def start(self) -> Any:
        return self.lm.start()

    def advance(self, state: Any, label: int) -> tuple[float, Any]:
        return self.lm.advance(state, self.symbols[label - 1])

    def end(self, state: Any) -> float:
        return self.lm.end(state)


COMPILED: dict[int, tuple[CharLM, tuple[str, ...], LabelModel]] = {}
"""The last few models as arrays; making them takes a second."""


def compiled_model(lm: CharLM, codec: Codec) -> LabelModel:
    """The arrays of a character model for the alphabet of the network."""
    known = COMPILED.get(id(lm))
    if known is None or known[0] is not lm or known[1] != codec.symbols:
        while len(COMPILED) >= 4:
            COMPILED.pop(next(iter(COMPILED)))
        COMPILED[id(lm)] = known = (lm, codec.symbols, label_model(lm, codec.symbols))
    return known[2]


def rule_of(decoding: Decoding, codec: Codec) -> Automaton | Words | None:
    """The language that the text must belong to.

    Raises:
        ConfigError: it is empty, or asks for characters that the model does not know.
    """
    labels: Mapping[str, int] = codec.labels
    if decoding.regex is not None:
        return regular(decoding.regex, codec.symbols)
    if decoding.digits is not None:
        digits = [labels[c] for c in "0123456789" if c in labels]
        if not digits:
            raise ConfigError("--digits: the model knows no digit.")
        return of_length(decoding.digits, digits)
    if decoding.lexicon:
        letters = {c for c in codec.symbols if c.isalnum() or c in "'^"}
        bigram = None
        if decoding.word_texts:
            runs = [words_in(text, letters) for text in decoding.word_texts]
            bigram = Bigram.of(runs, decoding.lexicon)
        return Words(
            labels,
            decoding.lexicon,
            letters,
            unknown=decoding.unknown_word,
            bigram=bigram,
            alpha=decoding.word_weight,
            mode=decoding.words,
        )
    if decoding.allow is None and decoding.deny is None:
        return None
    allowed = set(codec.symbols) if decoding.allow is None else set(clean(decoding.allow) + " ")
    unknown = sorted(allowed - set(codec.symbols) - {" "})
    if unknown:
        raise ConfigError(f"--allow: the model does not know {' '.join(unknown)}.")
    kept = [label for c, label in labels.items() if c in allowed and c not in (decoding.deny or "")]
    if not kept:
        raise ConfigError("--allow and --deny leave no character.")
    return only(kept)


def words_in(text: str, letters: Collection[str]) -> list[str]:
    """Words of a text: runs of word characters."""
    return "".join(c if c in letters else " " for c in clean(text)).split()


def labellings(log_probs: np.ndarray, codec: Codec, decoding: Decoding, rule: Any = None) -> list[Hypothesis]:
    """The best labellings of (T, V), at least one; the first is the answer.

    Without a labelling that the rule allows the answer is empty, with score -inf.

    Raises:
        DataError: log-probabilities of another alphabet.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != codec.size:
        raise DataError(f"log-probabilities {log_probs.shape} for an alphabet of {codec.size} outputs.")
    if decoding.choices:
        return best_choice(log_probs, codec, decoding.choices)
    if decoding.plain:
        spans = greedy(log_probs)
        labels = tuple(spans.labels.tolist())
        score = float(log_probs.max(1).sum())
        return [Hypothesis(labels, score, 0.0, score, tuple(spans.start.tolist()))]
    count = max(1, decoding.alternatives)
    alpha, beta = (decoding.lm_weight, decoding.lm_bonus) if decoding.lm else (0.0, 0.0)
    if rule is None:
        model = None if decoding.lm is None else compiled_model(decoding.lm, codec)
        beam_with = partial(
            fast_beam, log_probs, decoding.beam, count, lm=model, top=decoding.top, floor=FLOOR, skip=SURE
        )
        found = beam_with(alpha=alpha, beta=beta)
        if decoding.lm is not None and decoding.lm_doubt is not None and found:
            unlikely = -found[0].lm / (len(found[0].labels) + 1)
            if unlikely > decoding.lm_doubt:  # not the kind of text that the model knows
                found = beam_with(alpha=WEAKER * alpha, beta=WEAKER * beta)
    else:  # a rule forbids symbols, so none is left out before it
        letters = None if decoding.lm is None else Letters(decoding.lm, codec)
        beam = PrefixBeam(decoding.beam, lm=letters, alpha=alpha, beta=beta, rule=rule)
        beam.feed(log_probs)
        found = beam.best(count)
    return found or [Hypothesis((), -np.inf, 0.0, -np.inf, ())]


def best_choice(log_probs: np.ndarray, codec: Codec, choices: Sequence[str]) -> list[Hypothesis]:
    """The given texts by their exact probability."""
    found = []
    for text in choices:
        labels = tuple(codec.encode(text))
        score = label_score(log_probs, labels)
        found.append(Hypothesis(labels, score, 0.0, score, ()))
    found.sort(key=lambda hypothesis: -hypothesis.score)
    return found
