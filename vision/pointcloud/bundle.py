"""Weights of a run beside the package, with figures in their card."""

from collections.abc import Mapping
from pathlib import Path

from core.errors import WeightsError
from core.weights import UNFINISHED, find, load
from core.weights import bundle as put


def bundle(run: str | Path, name: str, score: Mapping[str, float], note: str) -> Path:
    """Store a run's best weights in half precision as `weights/<name>.safetensors`.

    Args:
        score: figures for the table of `recurra models`.
        note: hours and device of the training.

    Raises:
        WeightsError: a run that was not finished: its scores are no chances yet.
    """
    if UNFINISHED in load(find(run))[1].extra:
        raise WeightsError(f"{run}: the training is not finished; its weights have no thresholds.")
    return put(run, Path(__file__).parent / "weights", name, score=score, about={"training": note})
