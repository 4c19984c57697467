"""One training loop for every domain: exact resume, best weights, a card. Names load on first use."""

from typing import TYPE_CHECKING

from core.lazy import lazy

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
    from core.training.streams import pieces
    from core.weights import Card

_HOMES = {
    "Batches": ".batches",
    "BucketedBatches": ".buckets",
    "Card": "core.weights",
    "DrawnBatches": ".drawn",
    "GroupOptions": ".options",
    "LoopOptions": ".options",
    "OptimizerOptions": ".options",
    "Outcome": ".loop",
    "Place": ".distributed",
    "RecoverOptions": ".options",
    "ScheduleOptions": ".options",
    "ShuffledBatches": ".batches",
    "Stage": ".stages",
    "Start": ".start",
    "build_optimizer": ".optim",
    "check_folder": ".folder",
    "freeze": ".frozen",
    "local_device": ".distributed",
    "parameter_groups": ".optim",
    "pieces": ".streams",
    "reuse_memory": ".memory",
    "train": ".loop",
    "train_stages": ".stages",
    "unfreeze": ".frozen",
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
    "pieces",
    "reuse_memory",
    "train",
    "train_stages",
    "unfreeze",
]

__getattr__, __dir__ = lazy(globals(), _HOMES)
