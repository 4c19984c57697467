"""Options that reading pictures and decoding stored log-probabilities share."""

from pathlib import Path
from typing import Annotated

import typer

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
