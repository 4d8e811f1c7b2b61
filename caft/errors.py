"""The errors that a user can cause and act on.

Every message says what went wrong, where (file, shard, row or key), what was found, what was
expected, and what to do next. The pipeline prints it without a traceback and exits with code 2.
"""

import codecs
import io
import os
import select
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


class UnderWayError(LaunchError):
    """Nobody waits any longer for a job of a cluster, which goes on, or may."""


class TrackingError(CaftError):
    """The experiment tracker cannot be reached or refuses what is logged."""


@contextmanager
def exits_with_message() -> Iterator[None]:
    """Ends a command without a traceback where the block raises what a user can cause.

    A CaftError is one message and exit code 2; Ctrl-C is the line "interrupted" and 130; a reader of standard output
    that wants no more, as `head`, ends the command in silence with 0. What the streams' encoding cannot hold is printed
    in its place as an escape.
    """
    printable_streams()
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # what fails later is told by the interpreter, after our end
    except SystemExit:
        _unwritable_output()
        raise
    except CaftError as error:
        _unwritable_output()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        _unwritable_output()
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except OSError as error:
        nobody_reads = isinstance(error, BrokenPipeError) and _has_no_reader()
        problem = _unwritable_output()
        if nobody_reads:
            sys.exit(0)
        if problem is None:
            raise
        sys.stderr.write(f"error: standard output cannot be written ({problem.strerror}); send it elsewhere\n")
        sys.exit(2)


def leave_at_once(number: int, frame: object) -> None:
    """Ends the process as Ctrl-C does; a handler for imports and the process' end, when libraries wrap or swallow the error."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def printable_streams() -> None:
    """Makes both streams print any text: bytes of a file's name as they are, other unknown characters as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="caft_printable")


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    # A name that the file system's encoding could not read has its bytes as surrogates (PEP 383).
    parts = [
        bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else c.encode("ascii", "backslashreplace")
        for c in characters
    ]
    return b"".join(parts), error.end


codecs.register_error("caft_printable", _printable)


def _has_no_reader() -> bool:
    """Whether standard output is a pipe that nobody reads; another pipe, as to a worker, may have broken instead."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(state & select.POLLERR for _, state in poll.poll(0))


def _unwritable_output() -> OSError | None:
    """Why standard output takes no more; what is left for it is then dropped, else the interpreter tries again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
