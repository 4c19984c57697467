"""Golden cases of the loss, the decoders, alignment and the character model: every entry of the area `ocr`
that a room of `core.ctc` computes is one test."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from core.ctc.align import align
from core.ctc.char_lm import LN10, from_arpa, to_arpa, train_char_lm
from core.ctc.constraints import of_length, only, regular
from core.ctc.exact import choose, label_score
from core.ctc.greedy import greedy
from core.ctc.lexicon import Bigram, Words
from core.ctc.loss import ctc_loss
from core.ctc.prefix_beam import prefix_beam
from tests.golden import Entry, entries

WIDE = 200_000
"""A beam that prunes nothing of the small cases."""


class Bigrams:
    """A model of labels: row 0 at the start, then a row a label; no term for the end."""

    def __init__(self, table: list[list[float]]) -> None:
        self.table = table

    def start(self) -> int:
        return 0

    def advance(self, state: int, label: int) -> tuple[float, int]:
        return self.table[state][label - 1], label

    def end(self, state: int) -> float:
        return 0.0


def check_loss(entry: Entry) -> None:
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in entry.arrays().items()}
    logits = arrays["logits"].requires_grad_()
    sizes = arrays["input_lengths"], arrays["target_lengths"]
    found = ctc_loss(logits, arrays["targets"], *sizes)
    tolerance = entry.tolerance(1e-8)
    wanted = arrays["loss_none"]
    possible = wanted.isfinite()
    assert int(found.impossible) == int((~possible).sum())
    torch.testing.assert_close(found.loss[possible], wanted[possible], rtol=0, atol=tolerance)
    assert (found.loss[~possible] == 0).all()
    found.loss.sum().backward()
    torch.testing.assert_close(logits.grad, arrays["grad_logits"], rtol=0, atol=tolerance)
    mean = (found.loss / arrays["target_lengths"].clamp(min=1)).mean()
    assert abs(float(mean.detach() - arrays["loss_mean_zero_inf"])) < tolerance


def check_cases(entry: Entry) -> None:
    values = entry.values()
    tolerance = entry.tolerance(1e-6)
    with np.load(entry.path.with_name("ctc_arrays.npz")) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for case in values["cases"]:
        check_case(case, tolerance)
    for case in values["medium"]:
        check_medium(case, arrays[f"medium_{case['log_probs_index']}"])
    for number, case in enumerate(values["align"]):
        found = align(arrays[f"align_{case.get('log_probs_index', number)}"], case["target"])
        assert abs(found.score - case["logp_sum"]) < 1e-4
        assert [int(a) for a in found.start] == [span["start"] for span in case["spans"]]
        assert [int(b) for b in found.end] == [span["end"] for span in case["spans"]]


def check_case(case: dict[str, Any], tolerance: float) -> None:
    log_probs = np.array(case["log_probs"])
    if case["kind"] == "exhaustive":
        assert greedy(log_probs).labels.tolist() == case["greedy_labels"]
        assert abs(label_score(log_probs, case["greedy_labels"]) - case["greedy_labels_logp"]) < tolerance
        best = align(log_probs, case["nbest"][0]["labels"])
        assert abs(best.score - case["best_alignment_logp"]) < tolerance
        found = prefix_beam(log_probs, WIDE, len(case["nbest"]))
        wanted = [(row["labels"], row["logp"]) for row in case["nbest"]]
    elif case["kind"] == "exhaustive_bigram_lm":
        model = Bigrams(case["bigram_logp"])
        options = {"lm": model, "alpha": case["alpha"], "beta": case["beta"]}
        found = prefix_beam(log_probs, WIDE, len(case["nbest"]), **options)
        wanted = [(row["labels"], row["score"]) for row in case["nbest"]]
        for hypothesis, row in zip(found, case["nbest"], strict=True):
            assert abs(hypothesis.lm - row["lm_logp"]) < tolerance
            assert abs(hypothesis.ctc - row["ctc_logp"]) < tolerance
    else:
        found, wanted = lexicon_case(case, log_probs)
    assert [list(hypothesis.labels) for hypothesis in found] == [labels for labels, _ in wanted]
    for hypothesis, (_, score) in zip(found, wanted, strict=True):
        assert abs(hypothesis.score - score) < tolerance


def lexicon_case(case: dict[str, Any], log_probs: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Words of labels with one separator between two of them, none at the ends."""
    space = case["space"]
    letters = {chr(64 + label): label for label in range(1, log_probs.shape[1]) if label != space}
    names = {label: letter for letter, label in letters.items()}
    words = ["".join(names[label] for label in word) for word in case["lexicon"]]
    rule = Words(letters, words, letters)
    found = prefix_beam(log_probs, WIDE, WIDE, rule=rule)
    tidy = [h for h in found if not h.labels or is_tidy(h.labels, space)]
    return tidy[: len(case["nbest"])], [(row["labels"], row["logp"]) for row in case["nbest"]]


def is_tidy(labels: tuple[int, ...], space: int) -> bool:
    doubled = any(a == b == space for a, b in pairwise(labels))
    return labels[0] != space and labels[-1] != space and not doubled


def check_medium(case: dict[str, Any], log_probs: np.ndarray) -> None:
    assert greedy(log_probs).labels.tolist() == case["greedy_labels"]
    best = prefix_beam(log_probs, 100)[0]
    assert list(best.labels) == case["beam400_best"]
    assert abs(label_score(log_probs, best.labels) - case["exact_logp_of_best"]) < 1e-3


def check_constraints(entry: Entry) -> None:
    for case in entry.values()["cases"]:
        log_probs = np.array(case["log_probs"])
        labels = {symbol: number for number, symbol in enumerate(case["symbols"], 1)}
        if case["kind"] == "list":
            choices = [[labels[c] for c in text] for text in case["choices"]]
            for found, wanted in zip(choose(log_probs, choices), case["log_p"], strict=True):
                assert found == (-np.inf if wanted is None else pytest.approx(wanted, abs=1e-9))
            continue
        rule = rule_of(case, labels)
        found = prefix_beam(log_probs, WIDE, len(case["best"]), rule=rule)
        assert ["".join(case["symbols"][i - 1] for i in h.labels) for h in found] == [
            row["text"] for row in case["best"]
        ]
        for hypothesis, row in zip(found, case["best"], strict=True):
            assert abs(hypothesis.score - row.get("score", row.get("log_p"))) < 1e-9
            if "log_p" in row:
                assert abs(hypothesis.ctc - row["log_p"]) < 1e-9


def rule_of(case: dict[str, Any], labels: dict[str, int]) -> Any:
    match case["kind"]:
        case "allow":
            return only([labels[c] for c in case["allow"]])
        case "length":
            return of_length(case["length"], list(labels.values()))
        case "regex":
            return regular(case["regex"], case["symbols"])
        case "words_closed":
            return Words(labels, case["words"], case["word_characters"])
        case "words_open":
            cost = case["unknown_word"]
            return Words(labels, case["words"], case["word_characters"], unknown=cost)
    bigram = Bigram(np.array(case["bigram_counts"]), case["add_k"])
    options = {"bigram": bigram, "alpha": case["alpha"], "mode": "forecast"}
    return Words(labels, case["words"], case["word_characters"], **options)


def check_kneser_ney(entry: Entry) -> None:
    values = entry.values()
    model = train_char_lm(values["train"], values["order"])
    for n, found in enumerate(model.discounts, 1):
        assert found == pytest.approx(values["discounts"][str(n)], abs=1e-12)
    assert model.vocabulary == values["vocabulary"]
    counts = [count - (2 if n == 0 else 0) for n, count in enumerate(model.counts)]  # <s> and <unk> apart
    assert counts == [values["counts"][str(n)] for n in range(1, values["order"] + 1)]
    for query in values["queries"]:
        assert abs(model.log_p(query["context"], query["symbol"]) / LN10 - query["log10_p"]) < 1e-8
    for line in values["lines"]:
        assert abs(model.line(line["text"]) / LN10 - line["log10_p"]) < 1e-8
    assert abs(model.perplexity([line["text"] for line in values["lines"]]) - values["perplexity"]) < 1e-6
    small = values["arpa"]
    text = to_arpa(train_char_lm(small["train"], small["order"]))
    assert text.split() == small["text"].split()
    again = from_arpa(small["text"])
    assert again.counts == train_char_lm(small["train"], small["order"]).counts


CHECKS: dict[str, Callable[[Entry], None]] = {
    "ctc_loss": check_loss,
    "ctc_cases": check_cases,
    "ctc_constraints": check_constraints,
    "kneser_ney": check_kneser_ney,
}
PARTS = ("ctc_arrays",)
"""Files that an entry above reads beside itself."""
OURS = [entry for entry in entries("ocr") if entry.file.split(".")[0].startswith((*CHECKS, *PARTS))]


@pytest.mark.parametrize("entry", OURS, ids=str)
def test_numbers_are_those_of_the_golden_set(entry: Entry) -> None:
    stem = entry.file.split(".")[0]
    if stem.startswith(PARTS):
        arrays = entry.arrays()
        for name in arrays:  # proper log-probabilities, which the cases build on
            np.testing.assert_allclose(np.exp(arrays[name].astype(np.float64)).sum(-1), 1, atol=1e-5)
        return
    check = next(CHECKS[name] for name in CHECKS if stem.startswith(name))
    check(entry)
