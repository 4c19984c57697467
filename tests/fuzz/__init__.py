"""Strangers' files, made by the million: `make fuzz SECONDS=600`, see `tests/fuzz/__main__.py`."""
