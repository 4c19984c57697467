"""One way to compile a CPU loop with numba."""

from collections.abc import Callable
from typing import Any

from numba import njit

# no "nnan" and "ninf": a NaN must stay one
FAST_MATH: Any = {"reassoc", "contract", "arcp", "nsz", "afn"}


def compiled(*, fastmath: Any = FAST_MATH, inline: str = "never") -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop: division as in C, no interpreter lock, stored on disk where that is possible.

    Python's division would be a branch per element, which keeps LLVM from vectorising.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "inline": inline}

    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache can be written: compile once a process
            return njit(**options)(function)

    return compile_it
