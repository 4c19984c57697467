"""A line seen several times, a little slanted or stretched: what holds in every view is right more often.

Candidates are the best labellings of each view; the answer is the one of highest mean log-probability over
all views, each by the exact CTC sum. It costs a pass of the network a view, so only small networks do it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from core.ctc.exact import label_score
from core.ctc.prefix_beam import Hypothesis
from vision.ocr.line import GRAIN

VIEWS = ((0.0, 1.0, 1.0), (0.15, 1.0, 1.0), (-0.15, 1.0, 1.0), (0.0, 1.15, 1.0), (0.0, 1.0, 1.1))
"""Slant in columns a row, width and height as factors; the first is the line itself."""
LEAST = -40.0
"""A view that rules a labelling out counts as this."""
CANDIDATES = 4
"""Labellings that each view proposes."""


def variants(ink: np.ndarray) -> list[np.ndarray]:
    """The views of a prepared line (H, W)."""
    H, W = ink.shape
    found = [ink]
    for slant, wide, tall in VIEWS[1:]:
        width = -(-int(np.ceil(W * wide)) // GRAIN) * GRAIN
        turn = np.array([[wide, slant, -slant * H / 2], [0, tall, (1 - tall) * H / 2]], np.float32)
        found.append(cv2.warpAffine(ink, turn, (width, H), flags=cv2.INTER_LINEAR))
    return found


def agreed(proposals: Sequence[Hypothesis], views: Sequence[np.ndarray]) -> list[Hypothesis]:
    """Different labellings among the proposals, by their mean log-probability over the views (T, V)."""
    lm = {hypothesis.labels: hypothesis for hypothesis in reversed(proposals)}
    found = []
    for labels, hypothesis in lm.items():
        scores = [max(label_score(view, labels), LEAST) for view in views]
        mean = float(np.mean(scores))
        found.append(Hypothesis(labels, mean, hypothesis.lm, mean, hypothesis.frames))
    found.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.labels))
    return found
