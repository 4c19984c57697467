"""Where long work stands: said from anywhere below a handler, shown on the block that waits for it."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import gradio as gr

Step = TypeVar("Step")


def stands(share: float, words: str) -> None:
    """So much of the work is done (0 to 1), and what is done now; outside of a request nobody is told."""
    gr.Progress()(share, desc=words)


def told(steps: Iterable[Step], count: int, words: str) -> Iterator[Step]:
    """The steps of work, where each stands told before it begins."""
    found = iter(steps)
    for number in range(count):
        stands(number / count, f"{words} {number + 1} of {count}")
        try:
            yield next(found)
        except StopIteration:
            return
