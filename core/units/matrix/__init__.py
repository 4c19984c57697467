"""Linear recurrences with a matrix state (fast weights): chunkwise dense products."""
