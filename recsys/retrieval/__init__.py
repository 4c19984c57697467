"""The best of millions: exact blocked search and exact Thompson draws, compiled."""
