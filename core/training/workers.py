"""Batches made ahead of their use: here, or in one pool of processes that lasts as long as the run.

Workers are started by `forkserver`: the threads of numba and OpenMP do not survive a fork. So `make` must
pickle: a function of a module, or an object of a class there (its data travel once a worker).
"""

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import ConfigError, RecurraError, WorkError

START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class Order(NamedTuple):
    """One batch to make: `make(rows, generator)` with a generator of this seed."""

    rows: Any
    seed: int


class Broken(NamedTuple):
    """A sentence for a person, on its way out of a worker."""

    error: RecurraError


class Workers:
    """Makes batches from jobs in `count` processes; with 0 in this one. The result is the same.

    Raises:
        ConfigError: `make` cannot travel to a process.
    """

    def __init__(self, make: Callable[[Any, torch.Generator], Any], count: int) -> None:
        self.coming = Coming()
        if count:
            refuse_what_does_not_pickle(make)
            context = multiprocessing.get_context(START)
            if START == "forkserver":
                context.set_forkserver_preload(["torch", __name__])
        else:
            context = None
        # Without a generator of its own the loader would draw from the global one and break exact resume.
        self.loader = Loader(
            Jobs(make),
            batch_size=None,
            sampler=self.coming,  # pyright: ignore[reportArgumentType]
            num_workers=count,
            collate_fn=as_made,
            generator=torch.Generator(),
            multiprocessing_context=context,
            worker_init_fn=settle,
            persistent_workers=count > 0,
        )

    def stream(self, jobs: Sequence[Order]) -> Iterator[Any]:
        """Batches in the order of their jobs. One stream at a time: a new one ends the one before.

        Raises:
            WorkError: a worker died.
        """
        self.coming.jobs = jobs
        try:
            for batch in self.loader:
                if isinstance(batch, Broken):
                    raise batch.error
                yield batch
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise WorkError(
                "a process that makes batches died (killed, or out of memory?). Set loop.workers=0 to see."
            ) from error

    def close(self) -> None:
        """End the processes now, not when somebody collects what is left of them."""
        stop = getattr(getattr(self.loader, "_iterator", None), "_shutdown_workers", None)
        if stop is not None:
            stop()
        self.loader._iterator = None


class Loader(DataLoader):
    """Without the advice about numbers of workers: it compares with cores, whatever the workers wait for."""

    def check_worker_number_rationality(self) -> None:
        """Nothing to say."""


class Coming:
    """The jobs of the stream that is going on, read anew each time."""

    def __init__(self) -> None:
        self.jobs: Sequence[Order] = ()

    def __iter__(self) -> Iterator[Order]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)


class Jobs(Dataset):
    """Turns jobs into batches inside a loader's worker."""

    def __init__(self, make: Callable[[Any, torch.Generator], Any]) -> None:
        self.make = make

    def __getitem__(self, job: Order) -> Any:
        generator = torch.Generator().manual_seed(job.seed)
        try:
            return self.make(job.rows, generator)
        except RecurraError as error:  # the loader would put a traceback before its sentence
            return Broken(error)


def as_made(batch: Any) -> Any:
    """A batch as `make` gave it; the loader's own conversion would take containers apart."""
    return batch


def settle(number: int) -> None:
    """Leave signals to the parent, and end with it.

    Ctrl-C and SIGTERM to the group reach the trainer alone, which finishes its step with our batches. When it
    is killed nobody else ends us: the loader watches the fork server, which lives as long as we do.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: Any) -> None:
    """Wait for the end of a process, and end this one."""
    parent.join()
    os._exit(1)


def refuse_what_does_not_pickle(make: Callable[..., Any]) -> None:
    """A sentence before the processes are started, instead of a traceback out of their start."""
    try:
        pickle.dumps(make)
    except Exception as error:  # whatever an object's own code raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"these batches cannot be made in other processes ({reason}). "
            "Set loop.workers=0, or give a function or an object of a module's class."
        ) from error
