"""Work on many things, here or in processes beside each other: `--jobs`. The results do not depend on it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from core.errors import WorkError
from core.terminal import set_threads

Work = Callable[[Any], Any]


@contextmanager
def spread(
    make: Callable[..., Work], about: tuple[Any, ...], items: Sequence[Any], jobs: int
) -> Iterator[Work]:
    """What works on an item: `make(*about)` here, or in processes that have begun with the first ones.

    Args:
        items: each once, of a kind that can be a key.
        make: a function of a module; it and `about` travel to the processes.
        jobs: processes, each with one thread.

    Raises:
        WorkError: where a result is asked for, a process was lost.
    """
    work = make(*about)  # what is wrong with the words is said once, and here
    jobs = min(jobs, len(items))
    if jobs <= 1:
        yield work
        return
    with ProcessPoolExecutor(jobs, get_context("forkserver"), begin, (make, about)) as pool:
        waiting = {item: pool.submit(there, item) for item in items}

        def result(item: Any) -> Any:
            try:
                return waiting.pop(item).result()
            except BrokenProcessPool as error:
                raise WorkError("a process of --jobs was lost, perhaps for want of memory.") from error

        try:
            yield result
        finally:
            pool.shutdown(cancel_futures=True)


STARTED: list[Work] = []
"""The work of a process of `--jobs`."""


def begin(make: Callable[..., Work], about: tuple[Any, ...]) -> None:
    """Make the work of a process."""
    set_threads(1)
    STARTED[:] = [make(*about)]


def there(item: Any) -> Any:
    """Work in a process of `--jobs`."""
    return STARTED[0](item)
