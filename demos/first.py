"""The result that a page opens with, computed once per process however many people open the page."""

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import Lock
from typing import Any, TypeVar

Result = TypeVar("Result")


def once(make: Callable[..., Result], most: int = 32) -> Callable[..., Result]:
    """The same function, its newest `most` results kept; a second caller waits for the first one's result.

    The arguments are words and numbers, so the same choice of controls is answered at once.
    """
    lock, kept = Lock(), lru_cache(maxsize=most)(make)

    @wraps(make)
    def call(*arguments: Any) -> Result:
        with lock:
            return kept(*arguments)

    return call
