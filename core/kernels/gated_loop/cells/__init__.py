"""Compiled forward and backward loops, one cell a file."""
