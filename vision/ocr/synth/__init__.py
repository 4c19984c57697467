"""The built-in generator: handwriting from strokes of our own, digit strings from any set of digits."""
