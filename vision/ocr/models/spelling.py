"""What networks that spell character by character have in common: an end, and loops that are cut.

Attention that has lost its place says the same again and again. A run that is repeated four times in a row
(eight times for one character, since "0000" is an amount), or a text longer than the frames allow, is cut
there, marked, and its confidence falls by the share that was cut.
"""

from dataclasses import dataclass

import numpy as np

REPEATS, SINGLE = 4, 8
LONGEST_RUN = 12
"""Characters of a run that is looked for."""


@dataclass(frozen=True)
class Spelled:
    """Labels (1 is the first character of the alphabet), how sure each is, and whether a loop was cut."""

    labels: tuple[int, ...]
    sure: tuple[float, ...]
    looped: bool = False
    kept: float = 1.0
    """Share of what was said before the cut."""

    @property
    def confidence(self) -> float:
        """That the whole text is right: the product, lowered by what was cut."""
        return float(np.prod(self.sure)) * self.kept if self.sure else 0.0


def spelled(p: np.ndarray, *, stop: int, first: int, frames: int) -> Spelled:
    """The answer of probabilities (steps, V): the best label of each step up to `stop`.

    Args:
        first: label of the first character; labels below it, but for `stop`, are left out.
        frames: more characters than these cannot be there.
    """
    best, sure = p.argmax(1), p.max(1)
    end = int(np.argmax(best == stop)) if (best == stop).any() else len(best)
    chosen = [
        (int(label), float(c)) for label, c in zip(best[:end], sure[:end], strict=True) if label >= first
    ]
    labels = [label - first + 1 for label, _ in chosen]
    keep = min(unlooped(labels), frames)
    ending = [float(sure[end])] if end < len(best) and keep == len(labels) else []
    kept = keep / len(labels) if labels else 1.0
    told = tuple(c for _, c in chosen[:keep])
    if ending and told:
        told = (*told[:-1], told[-1] * ending[0])
    return Spelled(tuple(labels[:keep]), told, keep < len(labels), kept)


def unlooped(labels: list[int]) -> int:
    """How many labels stand before a loop, its first round included."""
    for end in range(len(labels)):
        for size in range(1, LONGEST_RUN + 1):
            times = SINGLE if size == 1 else REPEATS
            start = end + 1 - size * times
            if start < 0:
                continue
            run = labels[start : start + size]
            if size > 1 and len(set(run)) == 1:
                continue
            if labels[start : end + 1] == run * times:
                return start + size
    return len(labels)
