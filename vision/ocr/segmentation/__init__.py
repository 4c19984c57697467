"""From a page to its lines without a model: ink, pitch, curves, outlines, reading order."""

VERSION = 1
"""Of the way lines are found and cut; it travels with the weights."""
