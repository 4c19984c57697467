"""From scores to slates: one idea per file."""
