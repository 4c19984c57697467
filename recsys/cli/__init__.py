"""`recurra recsys`: a file for what is learned, what is shown, what is simulated."""

from recsys.cli import keep, learn, next, shelf, worlds
from recsys.cli.options import widened
from recsys.cli.shared import app

for command in (*app.registered_commands, *worlds.simulation.registered_commands):
    assert command.callback is not None
    command.callback = widened(command.callback)

__all__ = ["app", "keep", "learn", "next", "shelf", "worlds"]
