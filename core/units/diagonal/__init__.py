"""Linear recurrences with a vector state: one scan over the whole sequence."""
