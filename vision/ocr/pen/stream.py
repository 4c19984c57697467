"""Text while it is written: points in, the text so far out, in whatever pieces they come.

pen = PenStream(height=30)       # the bundled weights; small letters are 30 pixels high
for points in tablet:            # each (x, y, t_s, down)
    print(pen.feed(points))
print(pen.flush())
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.weights import load_network
from vision.ocr.codec import Codec, clean
from vision.ocr.decoding import Decoding, labellings, rule_of
from vision.ocr.pen.strokes import Ink, Steps, steps_of

BUNDLED = "ocr-pen"


def load_pen(weights: str | Path | None = None) -> tuple[nn.Module, Codec]:
    """The network and alphabet of weights of `recurra ocr train pen`; None takes the bundled ones.

    Raises:
        WeightsError: missing, or of another task.
    """
    from vision.ocr.pen.train import build_from

    loaded = load_network(weights or BUNDLED, ["ocr pen"], build_from)
    return loaded.network, Codec.from_dict(loaded.card.extra["codec"])


class PenStream:
    """One writer's pen. `network` offers the contract of a unit; the state is a plain value.

    Args:
        height: of small letters in the units of the points. A stream cannot look ahead for it.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        height: float,
        network: Any = None,
        codec: Codec | None = None,
    ) -> None:
        if (network is None) != (codec is None) or (network is not None and weights is not None):
            raise ConfigError("a pen has weights of `train pen`, or a network with its codec, not both.")
        if network is None or codec is None:
            network, codec = load_pen(weights)
        self.network, self.codec = network.eval(), codec
        self.steps = Steps(height)
        self.inner: Any = self.network.initial_state(torch.zeros(1, 1, self.network.input_size))
        self.labels: list[int] = []
        self.last = 0

    @property
    def text(self) -> str:
        """What has been written so far."""
        return clean(self.codec.decode(self.labels))

    @torch.no_grad()
    def feed(self, points: Iterable[Any]) -> str:
        """Points (x, y, t_s, down) -> the text so far."""
        for x in torch.from_numpy(self.steps.feed(points)):
            logits, self.inner = self.network.step(x[None], self.inner)
            self.take(logits[0])
        return self.text

    def take(self, logits: Tensor) -> None:
        """The label of one step; runs of one label are one character."""
        label = int(logits.argmax())
        if label not in (0, self.last):
            self.labels.append(label)
        self.last = label

    def flush(self) -> str:
        """The text of all that came; the next point begins anew."""
        text = self.text
        self.__init__(height=self.steps.height, network=self.network, codec=self.codec)
        return text

    def state(self) -> dict[str, Any]:
        """Everything that goes on with the next point."""
        return {
            "steps": self.steps.state(),
            "inner": self.inner,
            "labels": list(self.labels),
            "last": self.last,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state()`."""
        self.steps = Steps.of(state["steps"])
        self.inner, self.labels, self.last = state["inner"], list(state["labels"]), int(state["last"])


@torch.no_grad()
def read_pen(
    ink: Ink | np.ndarray, weights: str | Path | None = None, *, decoding: Decoding | None = None
) -> str:
    """The text of an ink that is there as a whole: levelled, its height measured.

    Args:
        decoding: rules, a character model or a lexicon, as for lines; None takes the best labels.

    Raises:
        WeightsError: missing, or of another task.
        ConfigError: a rule that the alphabet cannot follow.
    """
    return read_pens([ink], weights, decoding=decoding)[0]


@torch.no_grad()
def read_pens(
    inks: Iterable[Ink | np.ndarray], weights: str | Path | None = None, *, decoding: Decoding | None = None
) -> list[str]:
    """The texts of inks, as `read_pen` gives them."""
    network, codec = load_pen(weights)
    how = Decoding() if decoding is None else decoding
    rule = rule_of(how, codec)
    found = []
    for ink in inks:
        points = ink.points if isinstance(ink, Ink) else np.asarray(ink, float)
        logits, _ = network(torch.from_numpy(steps_of(points))[None])
        labels = labellings(logits[0].log_softmax(-1).numpy(), codec, how, rule)[0].labels
        found.append(clean(codec.decode(labels)))
    return found
