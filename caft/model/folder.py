"""Which files of a folder are pictures, and what else is there, found without opening any of them."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from caft.errors import DataError
from caft.pictures.formats import endings, to_install
from caft.pictures.litter import is_litter
from caft.pictures.reading import kind_of_place, path_problem

_NONE = "without an ending"
_SHOWN = 8  # endings that a line names


@dataclass
class Folder:
    """What is in a folder and the folders below.

    Attributes:
        pictures: Files whose ending is a picture's, sorted, with their size and time of change in nanoseconds: of their
            content or name, since two that change names may have been written in the same second.
        unreadable: Links that lead nowhere, what is no file (pipes, devices), and what may not be read, with the reason.
        other: Number of other files by ending, in lower case; those of the system are not counted.
    """

    pictures: dict[Path, tuple[int, int]] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    other: Counter[str] = field(default_factory=Counter)

    @property
    def could_be_opened(self) -> bool:
        """Whether a package is known that would open some of the others."""
        return any(map(to_install, self.other))

    def counts(self) -> str:
        """The others in a line, the most frequent first, those that a package would open before them."""
        ranked = sorted(self.other.items(), key=lambda item: (to_install(item[0]) is None, -item[1], item[0]))
        shown = [_count(ending, count) for ending, count in ranked[:_SHOWN]]
        rest = sum(count for _, count in ranked[_SHOWN:])
        return ", ".join([*shown, f"{rest} with other endings"] if rest else shown)


def list_pictures(folder: Path) -> Folder:
    """Finds the pictures of a folder and the folders in it, by the endings that can be decoded here, in either case.

    Links are followed, a folder is searched once however many lead to it. Names that start with a dot and what systems
    leave behind (`Thumbs.db`, `__MACOSX`, `@eaDir`), recycle bins and snapshots (`#recycle`, `.snapshot`) are passed over.

    Raises:
        DataError: It is no folder, or may not be read.
    """
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise DataError(f"{folder}: is a file; give a folder that holds pictures")
        os.scandir(folder).close()
    except FileNotFoundError:
        raise DataError(f"{folder}: no such folder; give one that holds pictures") from None
    except (OSError, ValueError) as error:
        raise DataError(path_problem(folder, error)) from error
    found, known = Folder(), endings()
    for path, status in _files(folder, found.unreadable, set()):
        ending = path.suffix.lower()
        if ending not in known:
            found.other[ending or _NONE] += 1
        elif (kind := kind_of_place(status.st_mode)) is not None:
            found.unreadable[path] = f"{path}: is {kind}"
        else:
            found.pictures[path] = status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
    found.pictures = dict(sorted(found.pictures.items()))
    return found


def _files(
    folder: Path, unreadable: dict[Path, str], seen: set[tuple[int, int]]
) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:
            return
        seen.add((place.st_dev, place.st_ino))
        names = sorted(os.listdir(folder))
    except OSError as error:
        unreadable[folder] = path_problem(folder, error)
        return
    below = []
    for name in names:
        if is_litter(name):
            continue
        path = folder / name
        try:
            status = path.stat()
        except OSError as error:
            unreadable[path] = path_problem(path, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            below.append(path)
        else:
            yield path, status
    for path in below:
        yield from _files(path, unreadable, seen)


def _count(ending: str, count: int) -> str:
    package = to_install(ending)
    return f"{count} {ending}" + (f" (`pip install {package}` adds them)" if package else "")
