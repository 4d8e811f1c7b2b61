"""Pictures of evaluation sets: found, looked into, the usual ones without decoding, and opened as their annotations saw them.

Annotations are of the pixels as they are stored, as in COCO, whose tools know no orientation; a tag that turns or
mirrors a picture does not move them. Only where the recorded size is that of the upright picture was this annotated.
"""

import functools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from caft.data.sets.files import entries, folders_in
from caft.data.sets.findings import Findings
from caft.errors import DataError
from caft.pictures.formats import add_plugins, endings, to_install, what_it_is
from caft.transforms import open_image

ABSENT, UNREADABLE, OTHER_SIZE = "images not there", "images that cannot be read", "images of another size"
_OTHER_ENDING, _FOLDERS = "images with another ending", "folders among the images"
_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)
# The end of a whole file is among its last bytes; a file that has none there is decoded to see.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_HEAD, _TAIL = 512, 64
_PLAIN = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK"}
ENDINGS = (".jpg", ".jpeg", ".png")  # of pictures that are taken from a folder by their ending; in any case
_SUFFIXES = (*ENDINGS, *map(str.upper, ENDINGS))


def find_picture(*places: Path) -> Path:
    """The first of some paths where a file is, by its name or with the ending in capitals or as `.jpeg`; else the first."""
    for path in places:
        others = (path.with_suffix(ending) for ending in _SUFFIXES) if path.name else ()
        # Not Path.is_file, to which a name that is too long is an error.
        if (found := next((place for place in (path, *others) if os.path.isfile(place)), None)) is not None:
            return found
    return places[0]


def is_named_as_picture(path: Path) -> bool:
    """Whether a name has an ending of pictures, also of those that are not taken or that a package would open."""
    ending = path.suffix.lower()
    return ending in endings() or to_install(ending) is not None


def note_others(paths: Iterable[Path], findings: Findings) -> set[str]:
    """Notes pictures whose ending is none of `ENDINGS` as bad items; gives their names without it."""
    others = [path for path in paths if is_named_as_picture(path) and path.suffix.lower() not in ENDINGS]
    for path in others:
        expected = f"expected {', '.join(ENDINGS)}; save it as PNG"
        findings.bad(_OTHER_ENDING, f"{path.parent.name}/{path.name}", expected)
    return {path.stem for path in others}


def note_folders(paths: Iterable[Path], findings: Findings) -> set[Path]:
    """Notes folders that hold pictures where pictures alone are expected as bad items; gives them."""
    found = {path for path in paths if path.is_dir() and any(map(is_named_as_picture, entries(path)))}
    for path in sorted(found):
        findings.bad(_FOLDERS, f"{path.parent.name}/{path.name}", f"move its pictures up, into {path.parent.name}")
    return found


def can_be_scored(path: Path, findings: Findings, size: tuple[int, int] | None = None) -> bool:
    """Whether a picture is there, has a header that can be read and is whole; else it is a bad item.

    Args:
        path: The file.
        findings: Take what is wrong, and count pictures that must be turned.
        size: Height and width that its annotations have.
    """
    place = findings.folder.parent  # a set may share pictures with its neighbours
    where = str(path.relative_to(place) if path.is_relative_to(place) else path)
    try:
        status = path.stat()
    except FileNotFoundError:
        findings.bad(ABSENT, where, "a link to nothing" if path.is_symlink() else _deeper(path))
        return False
    except (OSError, ValueError) as error:  # a name that can be none, a link to itself
        findings.bad(ABSENT, where, str(getattr(error, "strerror", error)))
        return False
    if not stat.S_ISREG(status.st_mode):
        findings.bad(ABSENT, where, "is no file")
        return False
    found, sideways, problem = _look(path, status.st_size, status.st_mtime_ns, size)
    if problem:
        findings.bad(UNREADABLE, where, problem)
    elif size is not None and found != size and not (found == size[::-1] and sideways):
        findings.bad(OTHER_SIZE, where, _another(found, size))
    else:
        if size is not None and found != size:
            findings.turned.add(path)
        return True
    return False


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture that can be scored, of its pixels as they are stored."""
    status = path.stat()
    return _look(path, status.st_size, status.st_mtime_ns, None)[0]


def _deeper(path: Path) -> str:
    """Where a picture is that lies one folder too deep, as some archives unpack; empty if it does not."""
    folder = next((folder for folder in folders_in(path.parent) if (folder / path.name).is_file()), None)
    return "" if folder is None else f"it is in {path.parent.name}/{folder.name}; move what is there up by one folder"


@functools.lru_cache(maxsize=100_000)
def _look(path: Path, length: int, changed: int, size: tuple[int, int] | None) -> tuple[tuple[int, int], bool, str]:
    """Height and width as stored, whether the picture is to be turned by a quarter, and what is wrong with it.

    A set is read by several steps of a job; `length` and `changed` tell a file that is another by now.
    """
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
        with _opened(path) as image:
            found = (image.height, image.width)
            plain = image.format in _ENDS and image.mode in _PLAIN
            # Of some formats the tag is read with the pixels, so only where it matters.
            sideways = size not in (None, found) and image.getexif().get(_ORIENTATION) in _SIDEWAYS
            end = _ENDS.get(image.format or "", b"")
        if not (plain and end in tail):
            open_image(path)
    except UnidentifiedImageError:
        return (0, 0), False, what_it_is(head)
    except DataError as error:
        return (0, 0), False, str(error).removeprefix(f"{path}: ")
    except Exception as error:  # damaged headers raise errors of many kinds
        return (0, 0), False, f"{error!r}"
    return found, sideways, ""


def _opened(path: Path) -> Image.Image:
    """A picture with its header read; as in `open_image`, plug-ins are asked for what Pillow itself does not know."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        if not add_plugins():
            raise
        return Image.open(path)


def open_annotated(path: Path, size: tuple[int, int]) -> Image.Image:
    """Opens a picture as its annotations, of the given height and width, saw it: RGB, stored pixels, or else upright.

    Raises:
        DataError: It is of another size, or cannot be decoded.
    """
    image = open_image(path, upright=False)
    found = (image.height, image.width)
    if found == size[::-1] != size:
        image = open_image(path)
    if (image.height, image.width) != size:
        raise DataError(f"{path}: {_another(found, size)}")
    return image


def _another(found: tuple[int, int], size: tuple[int, int]) -> str:
    return f"is {found[1]} x {found[0]} pixels, its annotations are for {size[1]} x {size[0]}; take the original image"
