"""Networks that read a sequence of items and score the next one, a block per file."""
