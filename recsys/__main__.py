"""`python -m recsys` is `recurra recsys`."""

from core.cli import run_app
from recsys.cli import app

run_app(app)
