"""Next-item models: sequences of items in, a ranking of all items out."""
