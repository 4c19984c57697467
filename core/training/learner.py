"""Model, optimiser, loss scale and averaged weights: everything that one step changes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.training.batches import to_device
from core.training.distributed import Place
from core.training.ema import Average
from core.training.optim import build_optimizer, parameter_groups
from core.training.options import LoopOptions
from core.training.schedule import factor
from core.weights import load_into

Step = Callable[[nn.Module, Any], Tensor | dict[str, Tensor]]
"""(model, batch) -> the loss, or named scalars among them "loss". Under torchrun the model is wrapped for
sharing gradients: call it and nothing else of it."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Learner:
    """Takes steps. `total` steps are planned, which the schedule needs to know."""

    def __init__(self, model: nn.Module, options: LoopOptions, total: int, place: Place) -> None:
        self.model = model
        self.options = options
        self.total = total
        self.device = next(model.parameters()).device
        groups = parameter_groups(model, options.lr, options.weight_decay, options.slow_factor)
        self.peaks = [group["lr"] for group in groups]
        self.optimizer = build_optimizer(options.optimizer, groups)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
        self.average = None if options.ema is None else Average(model, options.ema)
        self.rate = 0.0  # of the last step, before slow_factor
        self.network = model
        if place.world > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            self.network = DistributedDataParallel(model, device_ids=ids)

    def update(self, step: Step, stream: Iterator[Any], number: int) -> dict[str, Tensor]:
        """Take step `number` (0-based) on the next batches; gives the step's values, detached."""
        options = self.options
        height = factor(options.schedule, number, self.total, options.warmup)
        self.rate = options.lr * height
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * height
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for _ in range(options.accumulate):
            with self.autocast():
                values = named(step(self.network, to_device(next(stream), self.device)))
            self.scaler.scale(values["loss"] / options.accumulate).backward()
            add(sums, {name: value.detach() / options.accumulate for name, value in values.items()})
        if options.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return sums

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that was asked for."""
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.options.precision])

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model has the weights to validate and keep: the averaged ones, if asked for."""
        return nullcontext() if self.average is None else self.average.worn_by(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of a learner with the same model and options."""
        load_into(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def named(values: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """What a step gave, as named values."""
    named = {"loss": values} if isinstance(values, Tensor) else values
    if "loss" not in named or any(value.numel() != 1 for value in named.values()):
        shapes = {name: tuple(value.shape) for name, value in named.items()}
        raise ValueError(f'a step gives a scalar, or named scalars among them "loss"; got {shapes}')
    return named


def add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Add named values to named sums, in double precision and without waiting for a device."""
    for name, value in values.items():
        value = value.detach().double().reshape(())
        sums[name] = sums[name] + value if name in sums else value
