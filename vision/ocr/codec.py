"""Which character each output label stands for; label 0 is the blank."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from core.errors import ConfigError, DataError

BLANK = 0


def clean(text: str) -> str:
    """NFC, runs of white space to one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True)
class Codec:
    """Characters in the order of their labels, which count from 1."""

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ConfigError("an alphabet needs characters, each of them once.")

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label of each character."""
        return {symbol: label for label, symbol in enumerate(self.symbols, 1)}

    @property
    def size(self) -> int:
        """Outputs of a network: the characters and the blank."""
        return len(self.symbols) + 1

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Codec":
        """Every character of the texts, sorted."""
        return cls(tuple(sorted({character for text in texts for character in clean(text)})))

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """Characters of the texts that no label stands for, counted."""
        return Counter(c for text in texts for c in clean(text) if c not in self.labels)

    def replaced(self, text: str) -> str:
        """The text in this alphabet: unknown letters lose their accents, other unknown characters go."""
        found = ""
        for character in clean(text):
            base = unicodedata.normalize("NFKD", character)
            found += character if character in self.labels else "".join(c for c in base if c in self.labels)
        return clean(found)

    def encode(self, text: str) -> list[int]:
        """Labels of a text.

        Raises:
            DataError: a character has no label.
        """
        try:
            return [self.labels[character] for character in clean(text)]
        except KeyError as error:
            raise DataError(f"{error.args[0]!r} in {text!r} is not in the alphabet of the model.") from None

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels, spaces as they are."""
        return "".join(self.symbols[label - 1] for label in labels)

    def as_dict(self) -> dict[str, Any]:
        return {"symbols": list(self.symbols), "blank": BLANK, "normalisation": "NFC"}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Codec":
        return cls(tuple(stored["symbols"]))
