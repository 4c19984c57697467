"""Foreign weights: read through the house's door, named, with every key accounted for."""

from pathlib import Path

from core.errors import DataError
from core.weights import load, load_torch
from vision.pointcloud.models.published import Recognised, recognise

WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")


def recognised(path: str | Path) -> Recognised:
    """What a checkpoint is.

    Raises:
        DataError: no such file.
        WeightsError: it cannot be read, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    if path.suffix == ".safetensors":
        tensors, card = load(path)
        if card.task == "pointcloud":
            total = sum(value.numel() for value in tensors.values())
            backbone = card.settings.get("model", {}).get("backbone", "unknown")
            parts: dict[str, int] = {}
            for name in tensors:
                part = name.split(".")[0]
                parts[part] = parts.get(part, 0) + 1
            return Recognised(f"a detector of this package ({backbone}, {card.unit})", parts, total)
        return recognise(tensors)
    return recognise(load_torch(path))
