"""Figures that several pipelines report."""
