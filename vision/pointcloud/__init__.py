"""Find cars, people and cyclists in LiDAR scans, with linear recurrences over voxels.

Public names are imported on first use, so `import vision.pointcloud` costs nothing.
"""

from core.domains import Domain
from core.lazy import lazy

DOMAIN = Domain(
    name="pointcloud",
    summary="Find cars, people and cyclists in LiDAR scans of any sensor.",
    commands="vision.pointcloud.cli:app",
    bench=("vision.pointcloud.bench",),
    title="Point cloud",
    upload_mb=64,
)

PUBLIC = {
    "Boxes": ".predict",
    "Cloud": ".data",
    "Detector": ".predict",
    "detect": ".predict",
    "evaluate": ".evaluation",
    "read_cloud": ".data",
    "Sectors": ".live",
    "Tracker": ".track",
    "sequence": ".synth.sequence",
    "simulate": ".synth.scan",
}
__all__ = ["DOMAIN", *PUBLIC]
__getattr__, __dir__ = lazy(globals(), PUBLIC)
