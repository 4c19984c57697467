"""`python -m apps.trajectory` is `recurra trajectory`."""

from apps.trajectory.cli import app
from core.cli import run_app

run_app(app)
