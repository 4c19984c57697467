"""Several processes under torchrun; one process is the same code with a world of one.

torchrun --standalone --nproc_per_node=2 -m core trajectory train --out runs/a
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import ConfigError, WorkError
from core.text import first_line

PATIENCE_S = 30.0
"""Seconds that a process waits for another one that says nothing, by default."""
BEAT_S = 2.0
"""Seconds between two signs of life of the first process, while the others wait for its work."""
MEETING_S = 0.02
"""Seconds between two looks of a process that waits for the first one to come."""
SIGNS = ("gloo", "NCCL", "Connection", "imed out", "ocket", "TCPStore", "Broken pipe", "peer")
"""What the messages of a lost process have."""


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
        number = next(ROUNDS)
        if self.first:
            try:
                with beating(number):
                    result = act()
            except Exception as raised:  # the others would wait for ever
                error = raised
        else:
            await_first(number)
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


def join(device: torch.device, patience_s: float = PATIENCE_S) -> Place:
    """Join the other processes of a torchrun (NCCL for a model on CUDA, else gloo), until the program ends.

    The group is kept for the next run of this program: one that is made anew in the same processes would
    find the addresses of the old one, and wait for ever.

    Args:
        patience_s: after so many seconds without a word another process counts as lost.
    """
    if not dist.is_available():
        return Place(device=device)
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Place(device=device)
        backend, patience = "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=patience_s)
        # both are documented names of torch.distributed that its __all__ lacks
        enter, prefixed = dist.rendezvous, dist.PrefixStore  # pyright: ignore[reportPrivateImportUsage]
        table, rank, world = next(enter("env://", timeout=patience))
        meeting = prefixed(met(table, rank, world, patience), table)
        dist.init_process_group(backend, timeout=patience, rank=rank, world_size=world, store=meeting)
        atexit.register(leave)
    return Place(dist.get_rank(), dist.get_world_size(), device)


def met(table: Any, rank: int, world: int, patience: timedelta) -> str:
    """A name for the meeting of these very processes, under which they keep what they tell each other.

    torchrun keeps one table through its `--max-restarts`: without a name of their own, processes that were
    started again would read addresses of those that are gone. Its count of restarts is no such name: each
    machine of several has its own. So the first process makes one up, every other one signs it, and a name
    under which a process does not find its own signature is an old one.

    Raises:
        WorkError: not all came within `patience`.
    """
    own, others = uuid4().hex, range(1, world)
    if rank == 0:
        table.set("meeting", own)
        try:
            signed = [table.get(f"{own}/{other}").decode() for other in others]
        except dist.DistError as error:  # of the table's own patience
            raise WorkError(f"some of {world} processes did not come ({first_line(error)}).") from error
        table.set(f"{own}/all", " ".join(signed))
        return own
    since, name = time.monotonic(), ""
    while True:
        if table.check(["meeting"]) and (now := table.get("meeting").decode()) != name:
            name = now
            table.set(f"{name}/{rank}", own)
        if name and table.check([f"{name}/all"]) and own in table.get(f"{name}/all").decode().split():
            return name
        if time.monotonic() - since > patience.total_seconds():
            raise WorkError(f"the first of {world} processes did not come in time ({patience}).")
        time.sleep(MEETING_S)


def rounds() -> Iterator[int]:
    """Numbers of the rounds of `agree`, the same in all processes since all take part in each."""
    number = 0
    while True:
        yield number
        number += 1


ROUNDS = rounds()


def store() -> Any:
    """The table that the processes met by; the first process or torchrun keeps it."""
    return dist.distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]


@contextmanager
def beating(number: int) -> Iterator[None]:
    """While the block works, a sign of life every two seconds; at its end, a last one."""
    over = threading.Event()

    def beat() -> None:
        beats = 0
        while not over.wait(BEAT_S):
            beats += 1
            store().set(f"beat/{number}", str(beats))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        store().set(f"done/{number}", "1")


def await_first(number: int) -> None:
    """Wait as long as the first process works and gives signs of life.

    Raises:
        WorkError: it gave none for as long as the group's patience.
    """
    table = store()
    patience = table.timeout.total_seconds()
    seen, since, pause = b"", time.monotonic(), 0.001
    while not table.check([f"done/{number}"]):
        time.sleep(pause)
        pause = min(0.2, 2 * pause)
        if table.check([f"beat/{number}"]) and (now := table.get(f"beat/{number}")) != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > patience:
            raise WorkError(
                f"the first process has given no sign of life for {patience:g} s. Go on with resume=True."
            )


@contextmanager
def told_of_loss(place: Place) -> Iterator[None]:
    """Inside, another process that died or stands still is a sentence.

    Raises:
        WorkError: one did.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if place.world == 1 or not any(sign in text for sign in SIGNS):
            raise
        atexit.unregister(leave)  # a farewell would wait for the lost one, too
        raise WorkError(
            f"process {place.rank} of {place.world} lost another one, which was killed or stands still "
            f"({first_line(error)}). Go on with resume=True."
        ) from error


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
