"""Memories over more than one axis or with a fixed window."""
