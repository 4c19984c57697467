"""Predict where a flying, walking or sailing thing will be, from where it was.

Public names are imported on first use, so `import apps.trajectory` costs nothing.
"""

from importlib import import_module
from typing import Any

from core.domains import Domain

DOMAIN = Domain(
    name="trajectory",
    summary="Predict where drones and other movers will be.",
    commands="apps.trajectory.cli:app",
    bench=("apps.trajectory.bench",),
    title="Trajectory",
)

PUBLIC = {
    "Model": "model",
    "Prediction": "prediction",
    "Segment": "data",
    "Track": "track",
    "Windows": "data",
    "closest_approach": "questions",
    "entry_probability": "questions",
    "load_model": "model",
    "predict_along": "predict",
    "read_many": "data",
    "read_tracks": "data",
    "resample": "data",
    "sample_futures": "questions",
    "split_by_flight": "data",
    "windows": "data",
}
__all__ = ["DOMAIN", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(PUBLIC)
