"""One training loop for every domain: exact resume, best weights, a card. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.training.batches import Batches, ShuffledBatches
    from core.training.buckets import BucketedBatches
    from core.training.distributed import Place, local_device
    from core.training.drawn import DrawnBatches
    from core.training.folder import check_folder
    from core.training.frozen import freeze, unfreeze
    from core.training.loop import Outcome, train
    from core.training.memory import reuse_memory
    from core.training.optim import build_optimizer, parameter_groups
    from core.training.options import (
        GroupOptions,
        LoopOptions,
        OptimizerOptions,
        RecoverOptions,
        ScheduleOptions,
    )
    from core.training.stages import Stage, train_stages
    from core.training.start import Start
    from core.weights import Card

_HOMES = {
    "Batches": "core.training.batches",
    "BucketedBatches": "core.training.buckets",
    "Card": "core.weights",
    "DrawnBatches": "core.training.drawn",
    "GroupOptions": "core.training.options",
    "LoopOptions": "core.training.options",
    "OptimizerOptions": "core.training.options",
    "Outcome": "core.training.loop",
    "Place": "core.training.distributed",
    "RecoverOptions": "core.training.options",
    "ScheduleOptions": "core.training.options",
    "ShuffledBatches": "core.training.batches",
    "Stage": "core.training.stages",
    "Start": "core.training.start",
    "build_optimizer": "core.training.optim",
    "check_folder": "core.training.folder",
    "freeze": "core.training.frozen",
    "local_device": "core.training.distributed",
    "parameter_groups": "core.training.optim",
    "reuse_memory": "core.training.memory",
    "train": "core.training.loop",
    "train_stages": "core.training.stages",
    "unfreeze": "core.training.frozen",
}

__all__ = [
    "Batches",
    "BucketedBatches",
    "Card",
    "DrawnBatches",
    "GroupOptions",
    "LoopOptions",
    "OptimizerOptions",
    "Outcome",
    "Place",
    "RecoverOptions",
    "ScheduleOptions",
    "ShuffledBatches",
    "Stage",
    "Start",
    "build_optimizer",
    "check_folder",
    "freeze",
    "local_device",
    "parameter_groups",
    "reuse_memory",
    "train",
    "train_stages",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
