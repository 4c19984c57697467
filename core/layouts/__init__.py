"""Weights in the layouts of other libraries, both ways."""
