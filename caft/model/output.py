"""Where a command writes: found out before the work, which would be lost."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from caft.errors import DataError
from caft.storage import siblings


def check_output(output: Path, ending: str = ".png", folder: bool = False, option: str = "-o") -> None:
    """Makes sure that a file can be written, or where `folder` allows a name without ending, files in that folder.

    Folders that are not there yet are made when something is written. `option` is the name of the argument.

    Raises:
        DataError: The name has another ending, a folder or a file is in the way, or nothing may be written there.
    """
    try:
        place = _place(output, ending, folder, option)
    except (OSError, ValueError) as error:  # a name too long for the system, or with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{str(output)[:80]!r}: cannot be written ({reason}); give another name with {option}"
        ) from None
    _require_writable(place, output, option)


def check_folder(output: Path, option: str) -> None:
    """Makes sure that a folder can be put in place as a whole, beside which it is written first.

    Raises:
        DataError: A file is in the way, or nothing may be written there.
    """
    if output.is_symlink() and not output.exists():
        raise DataError(f"{output}: is a link that leads nowhere; give the name of a folder with {option}")
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file; give the name of a folder with {option}")
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(siblings(output)[0])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{str(output)[:80]!r}: cannot be written ({reason}); give another name with {option}"
        ) from None
    _require_writable(_standing(output.parent), output, option)


def _require_writable(place: Path, output: Path, option: str) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".caft-") as file:
            file.write(b"\0")
    except NotADirectoryError:
        raise DataError(
            f"{output}: cannot be written, since {place} is a file; give another place with {option}"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{output}: cannot be written ({place}: {reason}); give another place with {option}") from None


def _place(output: Path, ending: str, folder: bool, option: str) -> Path:
    """The folder of the files to come, or the first above it that is there."""
    or_folder = ", or a folder without an ending" if folder else ""
    if folder and (output.is_dir() or not output.suffix):
        if output.exists() and not output.is_dir():
            raise DataError(f"{output}: is a file; expected a name that ends in {ending}{or_folder}")
        if output.is_dir() and (inside := [path for path in sorted(output.glob(f"*{ending}")) if path.is_dir()]):
            raise DataError(
                f"{inside[0]}: is a folder, where a picture may be written; give another place with {option}"
            )
        place = output
    else:
        if output.suffix.lower() != ending:
            raise DataError(f"{output}: expected a name that ends in {ending}{or_folder}")
        if output.is_dir():
            raise DataError(f"{output}: is a folder; give the name of a file, such as {output / f'out{ending}'}")
        if ending == ".safetensors" and (card := output.with_suffix(".json")).is_dir():
            raise DataError(f"{card}: is a folder, where the card is to be written; give another place with {option}")
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(siblings(output)[0])  # of the name under which it is written, which may be too long
        place = output.parent
    return _standing(place)


def _standing(place: Path) -> Path:
    """A folder, or the first above it that is there."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
