"""Options that several commands share, and how each of them begins."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import checked_place, set_threads

Allow = Annotated[str | None, typer.Option(help="Only these characters.")]
Deny = Annotated[str | None, typer.Option(help="None of these characters.")]
Regex = Annotated[str | None, typer.Option(help="The text matches this expression.")]
SoManyDigits = Annotated[int | None, typer.Option(help="The text is so many digits.")]
Choices = Annotated[Path | None, typer.Option(help="File of texts, one a line; the text is one.")]
Lexicon = Annotated[Path | None, typer.Option(help="File of words; every word is one of them.")]
WordSearch = Annotated[
    str, typer.Option(help="How a lexicon is searched: words, n-grams, forecast or forecast+sample.")
]
WordText = Annotated[
    Path | None, typer.Option(help="Text in which pairs of words are counted, for n-grams and forecasts.")
]
WordWeight = Annotated[float, typer.Option(help="Weight of those pairs.")]
UnknownWord = Annotated[
    float | None, typer.Option(help="Log cost of a word outside the lexicon; none: there is none.")
]
Alternatives = Annotated[int, typer.Option(min=0, max=100, help="Other texts to give.")]
Segmenter = Annotated[
    str | None, typer.Option(help="What finds the lines of pages: kraken's, or of `train segment`.")
]
CharModel = Annotated[
    str | None,
    typer.Option("--lm", help="Character model: ocr-6gram, a file, or none. Default: the weights' own."),
]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Files or pages at a time, each by a process.")]
Report = Annotated[
    str | None,
    typer.Option(
        "--json", callback=checked_place, help="Write what became of every input as JSON; - is stdout."
    ),
]


def begin(threads: int | None, seed: int | None = None) -> None:
    """Threads and random numbers of a command, before anything is loaded."""
    set_threads(threads)
    if seed is not None:
        import torch

        torch.manual_seed(seed)
