"""Memories of a fixed window instead of a recurrence."""
