"""Several processes under torchrun; one process is the same code with a world of one.

torchrun --standalone --nproc_per_node=2 -m core trajectory train --out runs/a
"""

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """This process among all of a run."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """The first process's value, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def agree(self, act: Callable[[], Any]) -> Any:
        """What `act` gives in the first process, everywhere; or the error it raises, everywhere."""
        if self.world == 1:
            return act()
        result, error = None, None
        if self.first:
            try:
                result = act()
            except Exception as raised:  # the others would wait for ever
                error = raised
        result, error = self.share((result, error))
        if error is not None:
            raise error
        return result

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, in order of rank, everywhere."""
        if self.world == 1:
            return [value]
        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, value)
        return box

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is up in some process; the same answer everywhere."""
        if self.world == 1:
            return list(flags)
        up = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(up, dist.ReduceOp.MAX)
        return [bool(flag) for flag in up.tolist()]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Every process gets the first one's values, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means of named numbers over all processes."""
        everyone = self.gather(values)
        return {name: sum(each[name] for each in everyone) / self.world for name in values}


def join(device: torch.device) -> Place:
    """Join the other processes of a torchrun (NCCL for a model on CUDA, else gloo), until the program ends.

    The group is kept for the next run of this program: one that is made anew in the same processes would
    find the addresses of the old one, and wait for ever.
    """
    if not dist.is_available():
        return Place(device=device)
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Place(device=device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(leave)
    return Place(dist.get_rank(), dist.get_world_size(), device)


def leave() -> None:
    """Leave the group, if somebody has not done so."""
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(wanted: str = "cpu") -> torch.device:
    """The device for this process: "cuda" means this process's own GPU under torchrun.

    Raises:
        ConfigError: no such device here.
    """
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"no device {wanted!r}; there are cpu and cuda.") from error
    if device.type != "cuda":
        return device
    number = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise ConfigError(f"device {wanted!r} is not here; CUDA devices found: {torch.cuda.device_count()}.")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
