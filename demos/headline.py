"""The one measured figure of a pipeline, with what it is compared with, read from the card of its weights."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """What the card of a pipeline says; the numbers themselves stand in the weights' own card."""

    weights: str
    """Name of the bundled weights."""
    figure: str
    """Key of the card's score."""
    shown: str
    """Words around it, such as "{:.2f} m off after 1 s"."""
    against: str
    """Key of the score that it is compared with."""
    note: str
    """Words around that one, such as "constant velocity: {:.2f} m"."""

    def read(self) -> tuple[str, str]:
        """Figure and comparison in words; a score that the card lacks leaves its words empty.

        Raises:
            WeightsError: the weights are not there or damaged.
        """
        from core.weights import find, load

        score = load(find(self.weights))[1].score
        figure = spaced(self.shown.format(score[self.figure])) if self.figure in score else ""
        note = spaced(self.note.format(score[self.against])) if self.against in score else ""
        return figure, note if figure else ""


def spaced(text: str) -> str:
    """A space that does not break before the sign of percent, as the pages write it."""
    return re.sub(r"(?<=\d)%", "\N{NO-BREAK SPACE}%", text)
