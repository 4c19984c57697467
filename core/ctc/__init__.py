"""Connectionist temporal classification: loss, decoders, language model, alignment. Blank is label 0."""

from importlib import import_module
from typing import Any

PUBLIC = {
    "Spans": "greedy",
    "ctc_loss": "loss",
    "greedy": "greedy",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(PUBLIC)
