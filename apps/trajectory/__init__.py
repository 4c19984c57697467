"""Predict where a flying, walking or sailing thing will be, from where it was.

Public names are imported on first use, so `import apps.trajectory` costs nothing.
"""

from core.domains import Domain
from core.lazy import lazy

DOMAIN = Domain(
    name="trajectory",
    summary="Predict where drones and other movers will be.",
    commands="apps.trajectory.cli:app",
    bench=("apps.trajectory.bench",),
    title="Trajectory",
)

PUBLIC = {
    "Model": ".model",
    "Prediction": ".prediction",
    "Segment": ".data",
    "Track": ".track",
    "Windows": ".data",
    "closest_approach": ".questions",
    "entry_probability": ".questions",
    "load_model": ".model",
    "predict_along": ".predict",
    "read_many": ".data",
    "read_tracks": ".data",
    "resample": ".data",
    "sample_futures": ".questions",
    "split_by_flight": ".data",
    "windows": ".data",
}
__all__ = ["DOMAIN", *PUBLIC]
__getattr__, __dir__ = lazy(globals(), PUBLIC)
