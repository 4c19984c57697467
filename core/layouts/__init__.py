"""Published checkpoint layouts of whole blocks, to and from the units here."""
