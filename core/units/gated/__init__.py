"""Cells whose gates read the previous state: nonlinear recurrences."""
