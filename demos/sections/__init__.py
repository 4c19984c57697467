"""A part of the quickstart report per pipeline: `<word>.py` with `section(seed)`, found by its name."""
