"""Compute kernels, each with its plain definition beside it."""
