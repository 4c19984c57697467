"""Word beam search (Scheidl et al. 2018), exact: the prefix beam under the rule of a vocabulary.

The score is log p(labels | frames) + the word model's terms, added and not averaged, and every word must be
complete at the end of the line. The published tool takes a mean over the words and samples by chance.
"""

from typing import Any

import numpy as np

from core.ctc.lexicon import Words
from core.ctc.prefix_beam import Hypothesis, PrefixBeam


def word_beam(
    log_probs: np.ndarray, words: Words, width: int = 25, count: int = 1, **options: Any
) -> list[Hypothesis]:
    """The best `count` labellings of log-probabilities (T, V) whose words the vocabulary allows."""
    beam = PrefixBeam(width, rule=words, **options)
    beam.feed(log_probs)
    return beam.best(count)
