"""Slates that learn: probabilistic user models, Thompson sampling, next-item models.

Public names are imported on first use, so `import recsys` costs nothing.
"""

from importlib import import_module
from typing import Any

from core.domains import Domain

DOMAIN = Domain(
    name="recsys",
    summary="Recommend slates that learn: user models, Thompson sampling, simulation.",
    commands="recsys.cli:app",
    bench=("recsys.bench",),
    title="Recommendation",
    upload_mb=50,
)

PUBLIC = {
    "Catalogue": "data",
    "Slates": "data",
    "SlateModel": "model",
    "load_model": "model",
    "read_slates": "data",
    "recommend": "predict",
    "simulate": "simulator",
}
__all__ = ["DOMAIN", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(PUBLIC)
