"""Separate talkers and remove noise, from files or live.

    import speech

    clean = speech.enhance(wave, 16000)          # (N,) or (N, channels), as it came
    first, second = speech.separate(wave, 16000)
    stream = speech.open_stream()                # feed(samples) -> samples, flush()

Public names are imported on first use, so `import speech` costs nothing.
"""

from importlib import import_module
from typing import Any

from core.domains import Domain

DOMAIN = Domain(
    name="speech",
    summary="Separate talkers and remove noise, from files or live.",
    commands="speech.cli:app",
    bench=("speech.bench",),
    upload_mb=64,
)

PUBLIC = {
    "Model": "model",
    "enhance": "predict",
    "load_model": "model",
    "open_stream": "predict",
    "separate": "predict",
}
__all__ = ["DOMAIN", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
