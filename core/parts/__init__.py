"""Pieces beneath several families of units: what a unit is made of, never a unit."""
