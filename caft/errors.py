"""The errors that a user can cause and act on.

Every message says what went wrong, where (file, shard, row or key), what was found, what was
expected, and what to do next. The pipeline prints it without a traceback and exits with code 2.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class CaftError(Exception):
    """Base of every error that this project raises on purpose."""


class ParamsError(CaftError):
    """The settings are wrong; lists all problems at once."""


class DataError(CaftError):
    """Input data is missing, damaged, or does not add up."""


class SchemaError(DataError):
    """A table does not have the columns or types that its reader needs."""


class ManifestError(DataError):
    """Files on disk are not the ones that a manifest describes."""


class ArgumentError(CaftError, ValueError, TypeError):
    """An argument of a method is of another kind, shape or range than it takes."""


class CheckpointError(CaftError):
    """A checkpoint or model file cannot be read, or belongs to other settings."""


class LaunchError(CaftError):
    """A job or a server could not be started, or did not end well."""


class TrackingError(CaftError):
    """The experiment tracker cannot be reached or refuses what is logged."""


@contextmanager
def exits_with_message() -> Iterator[None]:
    """Ends a command with exit code 2 and one message, without a traceback, where the block raises a CaftError."""
    try:
        yield
    except CaftError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
