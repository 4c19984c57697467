"""Slates, variational GRU and Thompson sampling; its rooms are not built yet."""
