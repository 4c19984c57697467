"""One way to compile a CPU loop with numba, and the threads that run such loops."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from numba import njit

# no nnan, no ninf: a NaN must stay one. No reassoc: sums and split constants keep their order
FAST_MATH: Any = {"contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any] | None = None, *, fastmath: Any = FAST_MATH) -> Any:
    """Compile on first use: division as in C, no interpreter lock, kept on disk where that is possible.

    Python's division would be a branch per element, which keeps LLVM from vectorising.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}

    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package folder nor the user's cache can be written
            return njit(**options)(function)

    return compile_it if function is None else compile_it(function)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads for loops that release the lock; numba's own pool aborts the process on concurrent entry."""
    return ThreadPoolExecutor(threads, thread_name_prefix="recurra")


# threads do not survive a fork, so a child makes its own pool
os.register_at_fork(after_in_child=pool.cache_clear)
