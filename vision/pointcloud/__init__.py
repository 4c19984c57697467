"""Find cars, people and cyclists in LiDAR scans, with linear recurrences over voxels.

Public names are imported on first use, so `import vision.pointcloud` costs nothing.
"""

from importlib import import_module
from typing import Any

from core.domains import Domain

DOMAIN = Domain(
    name="pointcloud",
    summary="Find cars, people and cyclists in LiDAR scans of any sensor.",
    commands="vision.pointcloud.cli:app",
    bench=("vision.pointcloud.bench",),
    title="Point cloud",
    upload_mb=64,
)

PUBLIC = {
    "Boxes": "predict",
    "Cloud": "data",
    "Detector": "predict",
    "detect": "predict",
    "evaluate": "evaluate",
    "read_cloud": "data",
    "Tracker": "track",
    "simulate": "synth.scan",
}
__all__ = ["DOMAIN", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
