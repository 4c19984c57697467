"""Errors that a person can cause; the commands print them as one line and exit with code 2, or 1 for work."""


class RecurraError(Exception):
    """Something outside the program is wrong: the words, a setting, a file or its content. Exit code 2."""


class ConfigError(RecurraError, ValueError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(RecurraError):
    """An input file or stream cannot be read as what it should be."""


class WeightsError(RecurraError):
    """A weights file is damaged, foreign, or does not fit the model."""


class MissingExtraError(RecurraError):
    """An optional package is needed for this; the message says how to install it."""


class SignInError(RecurraError):
    """A package has signed in with something that cannot be loaded."""


class WorkError(RecurraError):
    """The work failed on good input: it diverged, a graph differs, a process died. Exit code 1."""


class Ended(KeyboardInterrupt):
    """The program was asked to end; `signal` is the number that asked. Exit code 128 + signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class UnfinishedWarning(UserWarning):
    """Weights of a run that still goes on were loaded; commands say it in a sentence."""
