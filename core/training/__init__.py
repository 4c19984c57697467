"""One training loop for every domain: exact resume, best weights, a card. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.training.batches import Batches, ShuffledBatches
    from core.training.buckets import BucketedBatches
    from core.training.distributed import local_device
    from core.training.drawn import DrawnBatches
    from core.training.loop import Outcome, train
    from core.training.memory import reuse_memory
    from core.training.optim import build_optimizer, parameter_groups
    from core.training.options import LoopOptions
    from core.weights import Card

_HOMES = {
    "Batches": "core.training.batches",
    "BucketedBatches": "core.training.buckets",
    "Card": "core.weights",
    "DrawnBatches": "core.training.drawn",
    "LoopOptions": "core.training.options",
    "Outcome": "core.training.loop",
    "ShuffledBatches": "core.training.batches",
    "build_optimizer": "core.training.optim",
    "local_device": "core.training.distributed",
    "parameter_groups": "core.training.optim",
    "reuse_memory": "core.training.memory",
    "train": "core.training.loop",
}

__all__ = [
    "Batches",
    "BucketedBatches",
    "Card",
    "DrawnBatches",
    "LoopOptions",
    "Outcome",
    "ShuffledBatches",
    "build_optimizer",
    "local_device",
    "parameter_groups",
    "reuse_memory",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
