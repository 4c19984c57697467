"""The compiled beam is the plain one; a beam can be fed in pieces; doubled letters survive every decoder."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ctc.char_lm import load_char_lm, save_char_lm, to_arpa, train_char_lm
from core.ctc.compiled_beam import fast_beam, label_model
from core.ctc.constraints import of_length, only, regular
from core.ctc.exact import every_labelling, label_score
from core.ctc.greedy import greedy
from core.ctc.lexicon import Words
from core.ctc.prefix_beam import PrefixBeam, prefix_beam
from core.errors import ConfigError

SYMBOLS = ("a", "b", "c", " ")
LINES = ["ab ac", "abc a", "c ab", "cab bac", "a a b", "bb cc a"]


class Letters:
    """A character model asked in labels."""

    def __init__(self) -> None:
        self.lm = train_char_lm(LINES, 4)

    def start(self) -> object:
        return self.lm.start()

    def advance(self, state: tuple[str, ...], label: int) -> tuple[float, object]:
        return self.lm.advance(state, SYMBOLS[label - 1])

    def end(self, state: tuple[str, ...]) -> float:
        return self.lm.end(state)


def frames(T: int, V: int, seed: int, sharp: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharp, (T, V))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def spoken(labels: list[int], V: int) -> np.ndarray:
    """Frames that say exactly these labels, blank 0 among them."""
    y = np.full((len(labels), V), np.log(0.02 / (V - 1)))
    y[np.arange(len(labels)), labels] = np.log(0.98)
    return y


@pytest.mark.parametrize(
    "options", [{}, {"top": 2}, {"floor": 3.0}, {"skip": -0.5}, {"top": 3, "floor": 5.0}]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_compiled_search_is_the_plain_one(options: dict[str, float], seed: int) -> None:
    y = frames(30, 5, seed)
    plain = prefix_beam(y, 8, 5, **options)
    quick = fast_beam(y, 8, 5, **options)
    assert [h.labels for h in quick] == [h.labels for h in plain]
    np.testing.assert_allclose([h.score for h in quick], [h.score for h in plain], atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_compiled_search_with_a_model_is_the_plain_one(seed: int) -> None:
    y, model = frames(25, 5, seed), Letters()
    plain = prefix_beam(y, 8, 4, lm=model, alpha=0.7, beta=0.9)
    quick = fast_beam(y, 8, 4, lm=label_model(model.lm, SYMBOLS), alpha=0.7, beta=0.9)
    assert [h.labels for h in quick] == [h.labels for h in plain]
    np.testing.assert_allclose([h.lm for h in quick], [h.lm for h in plain], atol=1e-9)
    np.testing.assert_allclose([h.score for h in quick], [h.score for h in plain], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 50))
def test_any_cutting_gives_the_same_beam(cuts: list[int], seed: int) -> None:
    y = frames(12, 4, seed)
    whole, pieces = PrefixBeam(5), PrefixBeam(5)
    whole.feed(y)
    edges = [0, *sorted(cuts), 12]
    for a, b in pairwise(edges):
        pieces.feed(y[a:b])
    assert pieces.best(5) == whole.best(5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_wide_beam_sums_every_alignment(seed: int) -> None:
    y = frames(5, 3, seed)
    exact = every_labelling(y)
    for hypothesis in fast_beam(y, 10_000, 20):
        assert abs(hypothesis.ctc - exact[hypothesis.labels]) < 1e-9
        assert abs(label_score(y, hypothesis.labels) - hypothesis.ctc) < 1e-9


@pytest.mark.parametrize("labels", [[1, 0, 1, 2], [1, 1, 0, 1], [2, 0, 2, 0, 2], [3, 0, 3, 1, 0, 1]])
def test_doubled_labels_survive_every_decoder(labels: list[int]) -> None:
    y = spoken(labels, 5)
    wanted = greedy(y).labels.tolist()
    assert any(a == b for a, b in pairwise(wanted))
    letters = {symbol: i for i, symbol in enumerate(SYMBOLS, 1)}
    text = "".join(SYMBOLS[i - 1] for i in wanted)
    rules = [only([1, 2, 3, 4]), of_length(len(wanted), [1, 2, 3]), regular("[abc]*", SYMBOLS)]
    rules.append(Words(letters, [text], "abc"))
    found = [prefix_beam(y, 10)[0], fast_beam(y, 10)[0]]
    found += [prefix_beam(y, 10, rule=rule)[0] for rule in rules]
    found.append(fast_beam(y, 10, lm=label_model(Letters().lm, SYMBOLS), alpha=0.3)[0])
    assert all(list(h.labels) == wanted for h in found)


def test_a_model_sums_to_one_after_any_context() -> None:
    lm = train_char_lm(LINES, 5)
    rng = np.random.default_rng(0)
    for _ in range(100):
        context = ["<s>", *rng.choice(list("abc xz"), int(rng.integers(0, 6)))]
        total = sum(np.exp(lm.log_p(context, symbol)) for symbol in lm.vocabulary)
        assert abs(total - 1) < 1e-6


def test_a_stored_model_gives_the_same_numbers(tmp_path: Path) -> None:
    lm = train_char_lm(LINES, 4)
    binary, arpa = tmp_path / "lm.npz", tmp_path / "lm.arpa"
    save_char_lm(binary, lm)
    arpa.write_text(to_arpa(lm))
    for again in (load_char_lm(binary), load_char_lm(arpa)):
        assert again.counts == lm.counts
        assert abs(again.line("ab cab") - lm.line("ab cab")) < 2e-2


@pytest.mark.parametrize("bad", ["(a", "a)", "*a", "[ab", "a{3,1}", "\\"])
def test_a_broken_expression_is_one_sentence(bad: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        regular(bad, SYMBOLS)


@pytest.mark.parametrize(
    ("piece", "means"), [("[[]", "["), ("[[a]", "[a"), ("[--]", "-"), ("[a||]", "a|"), ("[&&a]", "a&")]
)
def test_a_class_means_its_characters_without_a_warning(piece: str, means: str) -> None:
    symbols = tuple("a[-|&")
    rule = regular(piece, symbols)
    labels = range(len(symbols) + 1)
    found = {label for label in labels if (state := rule.step(0, label)) is not None and rule.accepts(state)}
    assert found == {1 + symbols.index(mark) for mark in means}


def test_an_impossible_expression_is_told_before_the_search() -> None:
    with pytest.raises(ConfigError, match="no text of this alphabet"):
        regular("xyz", SYMBOLS)


@pytest.mark.parametrize("width", [1, 3, 40])
def test_equal_probabilities_are_resolved_alike(width: int) -> None:
    rng = np.random.default_rng(width)
    y = np.log(rng.choice([0.1, 0.2, 0.2, 0.4], (12, 6)))  # most prefixes tie with others
    y -= np.logaddexp.reduce(y, axis=1, keepdims=True)
    plain, quick = prefix_beam(y, width, 5), fast_beam(y, width, 5)
    assert [h.labels for h in quick] == [h.labels for h in plain]
    np.testing.assert_allclose([h.score for h in quick], [h.score for h in plain], atol=1e-9)
