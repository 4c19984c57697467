"""Separation and enhancement of speech; its rooms are not built yet."""
