"""Weights of a run beside the package, with thresholds and figures in their card."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from core.weights import bundle as put
from core.weights import find, load, save
from vision.pointcloud.calibrate import curves, thresholds
from vision.pointcloud.predict import Detector

UNDONE = "unfinished"


def bundle(run: str | Path, name: str, score: Mapping[str, float], note: str, scans: int = 60) -> Path:
    """Store a run's best weights in half precision as `weights/<name>.safetensors`.

    Args:
        score: figures for the table of `recurra models`.
        note: hours and device of the training.
        scans: harder scans that the thresholds come from.
    """
    tensors, card = load(find(run))
    detector = Detector.open(run)
    network = detector.network
    extra = {key: value for key, value in card.extra.items() if key != UNDONE}
    card = replace(card, extra={**extra, **thresholds(network, scans), **curves(network, scans)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(path, tensors, card)
        return put(path, Path(__file__).parent / "weights", name, score=score, about={"training": note})
