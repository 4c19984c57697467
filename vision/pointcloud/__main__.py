"""`python -m vision.pointcloud` is `recurra pointcloud`."""

from core.cli import run_app
from vision.pointcloud.cli import app

run_app(app)
