"""Small modules beneath the units."""
