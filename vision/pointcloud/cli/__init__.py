"""`recurra pointcloud`: one file a group of verbs."""

from vision.pointcloud.cli import answer, compare, learn, scans
from vision.pointcloud.cli.app import app

__all__ = ["answer", "app", "compare", "learn", "scans"]
