"""Weights of a run beside the package, with figures in their card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import WeightsError
from core.weights import UNFINISHED, find, load, save
from core.weights import bundle as put


def bundle(run: str | Path, name: str, score: Mapping[str, float], note: str) -> Path:
    """Store a run's best weights in half precision as `weights/<name>.safetensors`.

    A run that the clock ended is calibrated like any other, and its weights are taken as they are.

    Args:
        score: figures for the table of `recurra models`.
        note: hours and device of the training.

    Raises:
        WeightsError: a run without thresholds: it broke off.
    """
    tensors, card = load(find(run))
    if "thresholds" not in card.extra:
        raise WeightsError(f"{run}: its weights have no thresholds; the training broke off.")
    extra = {key: value for key, value in card.extra.items() if key != UNFINISHED}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(path, tensors, replace(card, extra=extra))
        return put(path, Path(__file__).parent / "weights", name, score=score, about={"training": note})
