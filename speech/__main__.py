"""`python -m speech` is `recurra speech`."""

from core.cli import run_app
from speech.cli import app

run_app(app)
