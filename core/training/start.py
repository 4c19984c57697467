"""Fine-tuning: a run that begins from weights of another one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core.fitting import KeyMap
from core.training.sharded import own_rows
from core.weights import find, load, load_into, load_part

PARENT = "parent"
"""Key of the card of a run that began from other weights: which file, its SHA-256, what was taken."""


@dataclass(frozen=True)
class Start:
    """Weights to begin from: a bundled name, a file or a run folder.

    With `part` what fits is taken and the rest of the model stays as it was built (a new head, a longer
    alphabet); without, every tensor must fit.
    """

    weights: str | Path
    rename: KeyMap | None = None
    part: bool = False


class Parent:
    """The weights of a `Start`, read."""

    def __init__(self, start: str | Path | Start) -> None:
        self.start = start if isinstance(start, Start) else Start(start)
        path = find(self.start.weights)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.tensors: Mapping[str, Tensor]
        self.tensors, self.card = load(path)
        self.name = Path(self.start.weights).name

    def put_into(self, model: nn.Module) -> dict[str, Any]:
        """Copy the weights into the model; gives what the card says of it.

        Raises:
            WeightsError: they do not fit.
        """
        about: dict[str, Any] = {"weights": self.name, "sha256": self.sha256}
        if self.start.part:
            taken = load_part(model, own_rows(model, self.tensors), self.start.rename)
            about |= {"taken": len(taken.taken), "of": len(model.state_dict())}
        else:
            load_into(model, own_rows(model, self.tensors), self.start.rename)
        return about
