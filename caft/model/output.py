"""Where a command writes: found out before the work, which would be lost."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from caft.errors import DataError
from caft.storage import siblings


def check_output(output: Path, ending: str = ".png", folder: bool = False) -> None:
    """Makes sure that a file can be written, or where `folder` allows a name without ending, files in that folder.

    Folders that are not there yet are made when something is written.

    Raises:
        DataError: The name has another ending, a folder or a file is in the way, or nothing may be written there.
    """
    try:
        place = _place(output, ending, folder)
    except (OSError, ValueError) as error:  # a name too long for the system, or with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{str(output)[:80]!r}: cannot be written ({reason}); give another name with -o") from None
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".caft-") as file:
            file.write(b"\0")
    except NotADirectoryError:
        raise DataError(f"{output}: cannot be written, since {place} is a file; give another place with -o") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{output}: cannot be written ({place}: {reason}); give another place with -o") from None


def _place(output: Path, ending: str, folder: bool) -> Path:
    """The folder of the files to come, or the first above it that is there."""
    or_folder = ", or a folder without an ending" if folder else ""
    if folder and (output.is_dir() or not output.suffix):
        if output.exists() and not output.is_dir():
            raise DataError(f"{output}: is a file; expected a name that ends in {ending}{or_folder}")
        if output.is_dir() and (inside := [path for path in sorted(output.glob(f"*{ending}")) if path.is_dir()]):
            raise DataError(f"{inside[0]}: is a folder, where a picture may be written; give another place with -o")
        place = output
    else:
        if output.suffix.lower() != ending:
            raise DataError(f"{output}: expected a name that ends in {ending}{or_folder}")
        if output.is_dir():
            raise DataError(f"{output}: is a folder; give the name of a file, such as {output / f'out{ending}'}")
        if ending == ".safetensors" and (card := output.with_suffix(".json")).is_dir():
            raise DataError(f"{card}: is a folder, where the card is to be written; give another place with -o")
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(siblings(output)[0])  # of the name under which it is written, which may be too long
        place = output.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
