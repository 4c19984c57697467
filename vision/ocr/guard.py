"""Two ways in which training fails silently: only blanks, and a validation that collapses.

Both are said with their likely cause, and the next loss is made not finite, so that the loop goes back to its
best weights and lowers the rate (`loop.recover` times).
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

PATIENT = 1500
"""Steps before which only blanks are no sign: the plateau of CTC lasts about 500 and may last longer."""
SHARE = 0.1
"""Of all steps, the same."""
WORSE = 0.25
"""A character error rate that rises by so much is a collapse."""


class Guard:
    """Watches the figures of a run: `after_step` counts, `judge` looks, `pulled` turns the loss."""

    def __init__(self, total: int, say: Callable[[str], None], *, recovers: bool) -> None:
        self.total, self.say, self.recovers = total, say, recovers
        self.step, self.best, self.broken = 0, float("inf"), False
        self.told: set[str] = set()

    def after_step(self, model: Any, number: int) -> None:
        """Count; nothing is changed."""
        self.step = number

    def judge(self, figures: Mapping[str, float]) -> None:
        """Look at a validation: `cer`, and `blank`, the share of lines that are read as nothing."""
        cer, blank = figures["cer"], figures["blank"]
        if blank == 1.0 and self.step >= max(PATIENT, SHARE * self.total):
            self.alarm(
                "blank",
                f"after {self.step:,} steps every line is read as nothing: lr may be too high, ink and paper "
                "may be the wrong way round, or the texts are not those of the images.",
            )
        elif self.best < 0.9 and cer > self.best + WORSE:
            self.alarm(
                "collapse",
                f"the character error rate went from {self.best:.3f} to {cer:.3f}: lr is too high for these "
                "weights, or a batch was damaged; going back to the best weights.",
            )
        self.best = min(self.best, cer)

    def alarm(self, kind: str, text: str) -> None:
        """Say it, each kind once, and break the run where the loop can mend it."""
        if kind not in self.told:
            self.say(text)
        self.told.add(kind)
        self.broken = self.recovers

    def pulled(self, loss: Tensor) -> Tensor:
        """The loss, once not finite after an alarm."""
        if not self.broken:
            return loss
        self.broken = False
        return loss * float("nan")
