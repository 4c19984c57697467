"""`python -m demos [name]` is `recurra demo [name]`."""

import sys

from core.cli import app, run_app

sys.argv.insert(1, "demo")
run_app(app)
