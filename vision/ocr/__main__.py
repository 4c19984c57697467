"""`python -m vision.ocr` is `recurra ocr`."""

from core.cli import run_app
from vision.ocr.cli import app

run_app(app)
