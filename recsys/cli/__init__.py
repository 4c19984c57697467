"""`recurra recsys`: a file for what is learned, what is shown, what is simulated."""

from recsys.cli import keep, learn, next, shelf, worlds
from recsys.cli.shared import app

__all__ = ["app", "keep", "learn", "next", "shelf", "worlds"]
