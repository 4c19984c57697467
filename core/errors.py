"""Errors that a person can cause; the commands print them as one line and exit with code 2."""


class RecurraError(Exception):
    """Something outside the program is wrong: the words, a setting, a file or its content."""


class ConfigError(RecurraError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(RecurraError):
    """An input file or stream cannot be read as what it should be."""


class WeightsError(RecurraError):
    """A weights file is damaged, foreign, or does not fit the model."""


class MissingExtraError(RecurraError):
    """An optional package is needed for this; the message says how to install it."""
