"""`recurra ocr decode`: log-probabilities of any network, from a file, through our decoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.ctc.char_lm import load_char_lm
from core.door import arrays
from core.errors import ConfigError, DataError
from vision.ocr.codec import Codec
from vision.ocr.decoding import Decoding, labellings, rule_of

LARGEST = 1 << 30
"""Bytes of a file of log-probabilities."""


def decoding_of(
    model: tuple[Path | None, float, float, int],
    rules: tuple[str | None, str | None, str | None, int | None, tuple[str, ...], tuple[str, ...]],
    search: tuple[Any, tuple[str, ...], float, float | None],
    alternatives: int,
) -> Decoding:
    """The decoding of the words of the command.

    Args:
        model: file of a character model, its weight, its bonus, and the beam.
        rules: allow, deny, regex, digits, choices, lexicon.
        search: how a lexicon is searched, texts of its word model, their weight, cost of an unknown word.
    """
    lm, weight, bonus, beam = model
    allow, deny, regex, digits, choices, lexicon = rules
    words, word_texts, word_weight, unknown_word = search
    return Decoding(
        lm=None if lm is None else load_char_lm(lm),
        lm_weight=weight,
        lm_bonus=bonus,
        beam=beam,
        top=None,
        allow=allow,
        deny=deny,
        regex=regex,
        digits=digits,
        choices=choices,
        lexicon=lexicon,
        words=words,
        word_texts=word_texts,
        word_weight=word_weight,
        unknown_word=unknown_word,
        alternatives=alternatives + 1 if alternatives else 0,
    )


def decode(
    frames: np.ndarray, alphabet: Codec | Sequence[str], decoding: Decoding | None = None
) -> list[tuple[str, float]]:
    """Texts of one line with their log-probability, the answer first; more with `Decoding(alternatives=n)`.

    Args:
        frames: (T, V) of logits, probabilities or log-probabilities; label 0 is the blank.
        alphabet: the characters of the labels from 1 on.

    Raises:
        DataError: numbers that are not finite, or an alphabet of another size.
        ConfigError: a rule that nothing fits.
    """
    codec = alphabet if isinstance(alphabet, Codec) else Codec(tuple(alphabet))
    how = Decoding() if decoding is None else decoding
    frames = np.asarray(frames)
    if frames.ndim != 2:
        raise DataError(f"frames of a line are (T, V), got {frames.shape}.")
    return texts_of(as_log(frames, "the line"), codec, how, rule_of(how, codec))


def texts_of(log_probs: np.ndarray, codec: Codec, how: Decoding, rule: Any) -> list[tuple[str, float]]:
    """Texts and their log-probabilities, best first."""
    return [(codec.decode(h.labels).strip(), float(h.score)) for h in labellings(log_probs, codec, how, rule)]


def decoded(
    file: Path, decoding: Decoding, alphabet: Path | None = None, weights: str | None = None
) -> list[dict[str, Any]]:
    """Name, text, score and alternatives of every array of a file.

    Raises:
        DataError: no npz, an array of another shape, or an alphabet of another size.
        ConfigError: nobody says what the labels stand for.
    """
    arrays = arrays_of(file)
    codec = codec_for(arrays, alphabet, weights)
    rule = rule_of(decoding, codec)
    found = []
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.ndim != 2:
            continue
        texts = texts_of(as_log(array, f"{file}: {name}"), codec, decoding, rule)
        item: dict[str, Any] = {"name": name, "text": texts[0][0], "log_probability": texts[0][1]}
        if decoding.alternatives:
            item["alternatives"] = [{"text": text, "log_probability": score} for text, score in texts]
        found.append(item)
    if not found:
        raise DataError(f"{file}: holds no array (T, V) of numbers.")
    return found


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz, or the one of an npy; nothing in it is run."""
    found = arrays(file, file, largest=LARGEST, error=DataError)
    return {name or file.stem: array for name, array in found.items()}


def codec_for(arrays: dict[str, np.ndarray], alphabet: Path | None, weights: str | None) -> Codec:
    """What the labels stand for."""
    if alphabet is not None:
        return read_alphabet(alphabet)
    if weights is not None:
        from core.weights import find, load

        return Codec.from_dict(load(find(weights))[1].extra["codec"])
    if "symbols" in arrays:
        return Codec(tuple(str(symbol) for symbol in arrays["symbols"].tolist()))
    raise ConfigError("whose labels are these? Give --alphabet, --weights, or an array `symbols`.")


def read_alphabet(path: Path) -> Codec:
    """Characters of a file, one a line, in the order of their labels; `<space>` is the space.

    Raises:
        DataError: not text, or a character twice.
    """
    try:
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    symbols = [" " if row.rstrip("\r") == "<space>" else row.rstrip("\r") for row in rows]
    if symbols and not symbols[-1]:
        symbols.pop()
    if len(set(symbols)) < len(symbols) or not all(symbols):
        raise DataError(f"{path}: an alphabet has one character a line, each once.")
    return Codec(tuple(symbols))


def as_log(array: np.ndarray, name: str) -> np.ndarray:
    """Log-probabilities of logits, probabilities or log-probabilities.

    Raises:
        DataError: numbers that are not finite, or no frames.
    """
    values = array.astype(np.float64)
    if not values.size or np.isnan(values).any() or (values == np.inf).any():
        raise DataError(f"{name}: empty, or holds numbers that are not finite.")
    if (values >= 0).all() and np.allclose(values.sum(1), 1, atol=1e-3):
        return np.log(np.maximum(values, 1e-30))
    values = np.maximum(values, -1e30)
    return values - np.logaddexp.reduce(values, axis=1, keepdims=True)
