"""A page per pipeline: `<word>.py` with `build() -> gr.Blocks`, found by its name."""
