"""A network with its line preparation, alphabet, decoding and calibration: grey lines -> text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.config import replace as settings
from core.ctc.align import align as lay_out
from core.ctc.char_lm import CharLM, load_char_lm
from core.ctc.exact import label_score
from core.ctc.loss import frames_needed
from core.ctc.prefix_beam import Hypothesis
from core.errors import ConfigError, WeightsError
from core.text import first_line
from core.weights import Card, load_network
from vision.ocr.answer import Char, Line
from vision.ocr.codec import Codec
from vision.ocr.confidence import Calibration
from vision.ocr.config import TrainConfig
from vision.ocr.decoding import Decoding, labellings, rule_of
from vision.ocr.gaps import gaps
from vision.ocr.line import LineSettings, pieces, prepare
from vision.ocr.models.folding import folded
from vision.ocr.models.presets import build
from vision.ocr.recognise import log_probabilities, spell
from vision.ocr.views import CANDIDATES, LEAST, agreed, variants

DEFAULTS = {"lines": "ocr-lines", "digits": "ocr-digits"}
"""Bundled weights of a task."""
DOUBT = 2.0
"""Nats a character above which a character model counts less. The median of the validation lines is 1.55:
with the weights of then their errors stayed as they were (17.3 %), and of generated words, which nobody
wrote, 10.2 % were wrong in place of 14.2 %."""
MODELS = Path(__file__).parent / "weights"
"""Where the bundled character model lies beside the weights."""


@dataclass(frozen=True)
class Reader:
    """A network with everything that turns its output into text."""

    network: nn.Module
    card: Card
    codec: Codec
    line: LineSettings
    calibration: Calibration
    decoding: Decoding
    task: str
    views: bool = False
    """Whether a line is looked at several times, see `vision.ocr.views`."""

    def log_probabilities(self, greys: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities (T, V) of grey lines; very long ones are cut at blanks and joined."""
        parts = [pieces(prepare(grey, self.line)) for grey in greys]
        found = iter(log_probabilities(self.network, [piece for part in parts for piece in part]))
        return [np.concatenate([next(found) for _ in part]) for part in parts]

    def read(self, greys: Sequence[np.ndarray], decoding: Decoding | None = None) -> list[Line]:
        """Text of grey lines (h, w).

        Raises:
            ConfigError: a rule that this alphabet cannot follow.
        """
        decoding = self.decoding if decoding is None else decoding
        if hasattr(self.network, "spell"):
            return self.spelled_out(greys, decoding)
        rule = rule_of(decoding, self.codec)
        found = zip(self.seen(greys), greys, strict=True)
        return [self.spelled(views, grey, decoding, rule) for views, grey in found]

    def spelled_out(self, greys: Sequence[np.ndarray], decoding: Decoding) -> list[Line]:
        """Text of lines by a network that spells; its characters have no known place in the line.

        Raises:
            ConfigError: rules, which such a network does not follow.
        """
        if rule_of(decoding, self.codec) is not None or decoding.choices:
            raise ConfigError("these weights spell with attention; leave rules out.")
        inks = [prepare(grey, self.line) for grey in greys]
        return [
            spelled_line(told, grey, self.codec, self.calibration)
            for told, grey in zip(spell(self.network, inks), greys, strict=True)
        ]

    def seen(self, greys: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Log-probabilities of each line in each of its views; the first is the line itself."""
        if not self.views:
            return [[part] for part in self.log_probabilities(greys)]
        inks = [variants(prepare(grey, self.line)) for grey in greys]
        found = iter(log_probabilities(self.network, [ink for part in inks for ink in part]))
        return [[next(found) for _ in part] for part in inks]

    def hypotheses(self, views: list[np.ndarray], decoding: Decoding, rule: Any) -> list[Hypothesis]:
        """Labellings of a line, best first; with views, those that every view finds probable."""
        if len(views) == 1:
            return labellings(views[0], self.codec, decoding, rule)
        wide = replace(decoding, alternatives=max(decoding.alternatives, CANDIDATES))
        proposals = [hypothesis for view in views for hypothesis in labellings(view, self.codec, wide, rule)]
        proposals = [hypothesis for hypothesis in proposals if np.isfinite(hypothesis.score)]
        return agreed(proposals, views) or labellings(views[0], self.codec, decoding, rule)

    def read_each(
        self, greys: Sequence[np.ndarray], decoding: Decoding, *others: Decoding
    ) -> list[list[Line]]:
        """The same lines by every decoding, and last by the best label of each frame, from one pass.

        Raises:
            ConfigError: a rule that this alphabet, or a network that spells, cannot follow.
        """
        decodings = [decoding, *others]
        if hasattr(self.network, "spell"):  # there is one way to read them
            return [self.spelled_out(greys, decoding)] * (len(decodings) + 1)
        rules = [rule_of(one, self.codec) for one in decodings]
        found = list(zip(self.seen(greys), greys, strict=True))
        read = [
            [self.spelled(views, grey, one, rule) for views, grey in found]
            for one, rule in zip(decodings, rules, strict=True)
        ]
        if decoding.plain and not self.views:
            return [*read, read[0]]
        return [*read, [self.spelled(views[:1], grey, Decoding(), None) for views, grey in found]]

    def spelled(self, views: list[np.ndarray], grey: np.ndarray, decoding: Decoding, rule: Any) -> Line:
        """One line's answer from its log-probabilities in each view."""
        hypotheses, log_probs = self.hypotheses(views, decoding, rule), views[0]
        best = tidy(hypotheses[0].labels, self.codec)
        others = alternatives(hypotheses, self.codec) if decoding.alternatives else ()
        note = "" if np.isfinite(hypotheses[0].score) else "no text that the rule allows"
        if note or not best or frames_needed(best) > len(log_probs):
            return Line("", 0.0 if note else self.sure(views, ()), alternatives=others, note=note)
        laid = lay_out(log_probs, best)
        scale = grey.shape[0] / self.line.height
        stride = float(self.network.stride)  # pyright: ignore[reportArgumentType]
        middles = ((laid.start + laid.end) / 2 * stride - self.line.margin) * scale
        edges = np.r_[2 * middles[0], middles[:-1] + middles[1:], 2 * middles[-1]] / 2
        reach = np.median(np.diff(middles)) / 2 if len(middles) > 1 else grey.shape[0] / 4
        edges[0], edges[-1] = middles[0] - reach, middles[-1] + reach
        spans, covered = gaps(
            prepare(grey, self.line),
            (middles / scale + self.line.margin).tolist(),
            (edges / scale + self.line.margin).tolist(),
        )
        spans = tuple(((a - self.line.margin) * scale, (b - self.line.margin) * scale) for a, b in spans)
        edges = edges.clip(0, grey.shape[1])
        sure = self.calibration.chars(laid.mean)
        chars = tuple(
            Char(self.codec.symbols[label - 1], float(c), float(a), float(b))
            for label, c, a, b in zip(best, sure, edges[:-1], edges[1:], strict=True)
        )
        text = "".join(c.text for c in chars)
        return Line(text, covered * self.sure(views, best), chars, others, gaps_px=spans)

    def sure(self, views: list[np.ndarray], labels: Sequence[int]) -> float:
        """Calibrated confidence that a whole line is right."""
        return self.calibration.line(likely(views, labels))


def spelled_line(told: Any, grey: np.ndarray, codec: Codec, calibration: Calibration) -> Line:
    """The line of a spelling: its characters share the width evenly, a loop that was cut is noted."""
    labels = tidy(told.labels, codec)
    sure = calibration.chars(told.sure[: len(labels)]) if labels else np.zeros(0)
    step = grey.shape[1] / max(len(labels), 1)
    chars = tuple(
        Char(codec.symbols[label - 1], float(c), i * step, (i + 1) * step)
        for i, (label, c) in enumerate(zip(labels, sure, strict=True))
    )
    note = "a loop was cut" if told.looped else ""
    return Line("".join(c.text for c in chars), calibration.line(told.confidence), chars, note=note)


def likely(views: Sequence[np.ndarray], labels: Sequence[int]) -> float:
    """Probability of labels, geometric mean over the views."""
    return float(np.exp(np.mean([max(label_score(view, labels), LEAST) for view in views])))


def tidy(labels: Sequence[int], codec: Codec) -> tuple[int, ...]:
    """Labels without spaces at the ends and with one space between words."""
    space = codec.labels.get(" ")
    kept: list[int] = []
    for label in labels:
        if label == space and (not kept or kept[-1] == space):
            continue
        kept.append(label)
    if kept and kept[-1] == space:
        kept.pop()
    return tuple(kept)


def alternatives(hypotheses: Sequence[Any], codec: Codec) -> tuple[tuple[str, float], ...]:
    """Texts and their shares; those below 1e-4 are left out."""
    scores = np.array([hypothesis.score for hypothesis in hypotheses])
    if not np.isfinite(scores[0]):
        return ()
    shares = np.exp(scores - np.logaddexp.reduce(scores))
    texts: dict[str, float] = {}
    for hypothesis, share in zip(hypotheses, shares.tolist(), strict=True):
        text = codec.decode(tidy(hypothesis.labels, codec))
        texts[text] = texts.get(text, 0.0) + share
    return tuple((text, share) for text, share in texts.items() if share >= 1e-4)


def build_from(card: Card) -> nn.Module:
    """The network that a card describes, without its shortcut head where the card says it was left out."""
    if "layout" in card.extra:
        from vision.ocr.models.published import build_published

        return build_published(card.extra["layout"]["name"], card.extra["layout"]["args"])
    config = settings(TrainConfig(), card.settings)
    if card.extra.get("shortcut") is False:
        config = replace(config, model=replace(config.model, shortcut=False))
    return build(config, Codec.from_dict(card.extra["codec"]).size)


def load_reader(
    weights: str | Path | None = None, task: str | None = None, *, device: Any = "cpu", lm: bool | str = True
) -> Reader:
    """A reader from bundled weights, a weights file or a run folder.

    Args:
        weights: None takes the bundled ones of the task, lines if none is named.
        lm: the character model that the weights name, none, a bundled name, or a file.

    Raises:
        WeightsError: nothing there, or weights of another task.
        ConfigError: there is no such task.
    """
    if task is not None and task not in DEFAULTS:
        raise ConfigError(f"no task {task!r}; there are {', '.join(DEFAULTS)}.")
    wanted = [f"ocr {name}" for name in DEFAULTS] if task is None else [f"ocr {task}"]
    loaded = load_network(
        weights or DEFAULTS[task or "lines"], wanted, build_from, device=torch.device(device)
    )
    card = loaded.card
    try:
        codec = Codec.from_dict(card.extra["codec"])
        line = settings(LineSettings(), card.extra["line"])
        calibration = settings(Calibration(), card.extra.get("calibration", {}))
        named = card.extra.get("lm") or {}
        decoding = Decoding(
            lm=character_model(lm, named.get("file")),
            lm_weight=bounded(named.get("weight", 0.6)),
            lm_bonus=bounded(named.get("bonus", 1.2)),
            lm_doubt=bounded(named.get("doubt", DOUBT)),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{loaded.path}: its card lacks what reading needs ({first_line(error)})."
        ) from error
    return Reader(
        folded(loaded.network),
        card,
        codec,
        line,
        calibration,
        decoding,
        card.task.partition(" ")[2],
        bool(card.extra.get("views")),
    )


def bounded(value: Any) -> float:
    """A weight of a card.

    Raises:
        ValueError: it is none.
    """
    if not abs(float(value)) <= 100:  # NaN neither
        raise ValueError(f"{float(value):g} is no weight of a character model")
    return float(value)


def character_model(lm: bool | str, named: str | None) -> CharLM | None:
    """The model of a file or of a bundled name, or the one that the weights name, or none."""
    if lm is False or (lm is True and not named):
        return None
    if lm is True and str(named) != Path(str(named)).name:
        raise ValueError("its character model is no name of a file beside the package")
    path = MODELS / str(named) if lm is True else Path(str(lm))
    if not path.exists() and path.name == str(path) and (MODELS / f"{path}.npz").is_file():
        path = MODELS / f"{path}.npz"  # the name of a bundled one
    return cached_model(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=4)
def cached_model(path: Path, changed_ns: int) -> CharLM:
    """A character model, read once for each state of its file."""
    return load_char_lm(path)
