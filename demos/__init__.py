"""Web demos, one page a pipeline."""
