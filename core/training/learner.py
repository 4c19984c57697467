"""Model, optimisers, loss scale and averaged weights: everything that one step changes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from core.training.batches import to_device
from core.training.distributed import Place
from core.training.ema import Average
from core.training.gradients import shared
from core.training.optim import build_optimizers, clip_gradients
from core.training.options import LoopOptions
from core.training.schedule import factor, momentum
from core.training.sharded import clip_over_shards, own_rows, shards
from core.weights import load_into

Step = Callable[[nn.Module, Any], Tensor | dict[str, Tensor] | None]
"""(model, batch) -> the loss, or named scalars among them "loss", or None where there is nothing to learn.
"count" among them is no figure: it says of how many things the others are means, and weighs this batch among
those of its step, of all processes and of the epoch."""
AfterStep = Callable[[nn.Module, int], None]
"""(model, steps taken) -> None: what must hold of the weights after every step, such as masks and norms."""
Sums = dict[str, Tensor]
"""By name (sum of weight * value, sum of weights), float64."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Learner:
    """Takes steps. `total` steps are planned, which the schedule needs to know."""

    def __init__(self, model: nn.Module, options: LoopOptions, total: int, place: Place) -> None:
        self.model = model
        self.options = options
        self.total = total
        self.place = place
        self.device = next(model.parameters()).device
        self.optimizers = build_optimizers(model, options)
        self.peaks = self.group_values("lr")
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
        self.average = None if options.ema is None else Average(model, options.ema, options.ema_statistics)
        self.rate = 0.0  # of the last step, before slow_factor
        self.shards = shards(model)
        place.same([one for one in model.parameters() if id(one) not in self.shards])
        place.same(model.buffers())

    def update(
        self, step: Step, stream: Iterator[Any], number: int, height: float = 1.0
    ) -> tuple[Sums, int, bool]:
        """Take step `number` (0-based) on the next batches.

        Gives sums of the step's values, how many batches of this process had nothing to learn, and whether
        the weights changed, which they do if there was something in any process.
        """
        self.set_rates(number, height)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.place.same(self.model.buffers())  # batch-norm statistics are those of the first process
        sums: Sums = {}
        weights: list[Tensor | float] = []
        accumulate = self.options.accumulate
        alone = accumulate == 1 and self.place.world == 1
        for _ in range(accumulate):
            with self.autocast():
                values = step(self.model, to_device(next(stream), self.device))
            if values is None:
                continue
            values = named(values)
            loss, count = values["loss"], values.pop("count", None)
            count = None if count is None else count.detach().double().reshape(())
            weights.append(1 / accumulate if count is None else count)
            if not alone:
                loss = loss * (weights[-1] if count is None else count.to(loss.dtype))
            self.scaler.scale(loss).backward()
            add(sums, values, 1.0 if count is None else count)
        whole = len(weights) == accumulate and not any(isinstance(weight, Tensor) for weight in weights)
        changed = shared(self.learning, weights, alone or whole, self.place, self.shards)
        if changed:
            self.apply()
        return sums, accumulate - len(weights), changed

    def apply(self) -> None:
        """Change the weights by the gradients that are there."""
        active = [optimizer for optimizer in self.optimizers if has_gradients(optimizer)]
        if not active:
            return
        if self.options.clip is not None:
            for optimizer in active:
                self.scaler.unscale_(optimizer)
            if self.shards:
                clip_over_shards(self.model, self.options.clip, self.place)
            else:
                clip_gradients(self.learning, self.options.clip)
        for optimizer in active:
            self.scaler.step(optimizer)
        self.scaler.update()

    def end_step(self) -> None:
        """Take the step's weights into the average."""
        if self.average is not None:
            self.average.update(self.model)

    def set_rates(self, number: int, height: float) -> None:
        """Rate and momentum of every group at a step."""
        plan = self.options.plan
        height = height * factor(plan, number, self.total)
        self.rate = self.options.lr * height
        turned = momentum(plan, number, self.total)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * height
                if turned is not None and "betas" in group:
                    group["betas"] = (turned, *group["betas"][1:])
                elif turned is not None and group.get("momentum"):
                    group["momentum"] = turned

    def group_values(self, name: str) -> list[list[Any]]:
        """One value of every group of every optimiser."""
        return [[group[name] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def restart(self, weights: dict[str, Tensor]) -> None:
        """Go on from these weights with fresh moments."""
        load_into(self.model, own_rows(self.model, weights))
        self.optimizers = build_optimizers(self.model, self.options)
        if self.average is not None:
            self.average.restart(self.model)

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
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of a learner with the same model and options."""
        load_into(self.model, state["model"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is something for an optimiser to do."""
    return any(
        parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"]
    )


def named(values: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """What a step gave, as named values."""
    named = {"loss": values} if isinstance(values, Tensor) else dict(values)
    if "loss" not in named or any(value.numel() != 1 for value in named.values()):
        shapes = {name: tuple(value.shape) for name, value in named.items()}
        raise ValueError(f'a step gives a scalar, or named scalars among them "loss"; got {shapes}')
    return named


def add(sums: Sums, values: dict[str, Tensor], weight: Tensor | float) -> None:
    """Add named values to named sums, in double precision and without waiting for a device."""
    for name, value in values.items():
        value = value.detach().double().reshape(())
        both = torch.stack([value * weight, torch.ones_like(value) * weight])
        sums[name] = sums[name] + both if name in sums else both


def merged(parts: Sequence[Sums]) -> Sums:
    """Sums of sums."""
    whole: Sums = {}
    for part in parts:
        for name, both in part.items():
            whole[name] = whole[name] + both if name in whole else both
    return whole


def means(sums: Sums) -> dict[str, float]:
    """Weighted means by name; this waits for a device, once."""
    if not sums:
        return {}
    rows = torch.stack(list(sums.values())).tolist()
    return {name: total / weight if weight else 0.0 for name, (total, weight) in zip(sums, rows, strict=True)}
