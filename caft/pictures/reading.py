"""Picture files to Pillow images, and what is wrong with those that are none, each in one sentence."""

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from caft.errors import DataError
from caft.pictures.colours import to_rgb
from caft.pictures.formats import add_plugins, what_it_is

Source = bytes | Path | str | Image.Image

_HEAD = 512  # bytes that tell what a file is
_ORIENTATION = ExifTags.Base.Orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_BACK = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
# How a grey value or colour that a PNG marks as transparent comes to the 8 bits that Pillow makes of the pixels.
_MARKED = {"L;2": lambda value: value * 85, "L;4": lambda value: value * 17,
           "RGB;16B": lambda colour: tuple(value >> 8 for value in colour)}  # fmt: skip
_KINDS = (
    (stat.S_ISDIR, "a folder; give a picture file"),
    (stat.S_ISFIFO, "a pipe; save the picture to a file first, or give its bytes"),
    (stat.S_ISSOCK, "a socket; give a picture file"),
    (stat.S_ISCHR, "a device; give a picture file"),
    (stat.S_ISBLK, "a device; give a picture file"),
)


def read_rgb(source: Source, upright: bool) -> Image.Image:
    """What `caft.transforms.open_image` gives."""
    if isinstance(source, Image.Image):
        where = str(getattr(source, "filename", "")) or "the given picture"
        return _rgb(source, where, b"", upright)
    if isinstance(source, bytes):
        return _decoded(io.BytesIO(source), "the given bytes", upright)
    with _opened(source) as file:
        return _decoded(file, str(source), upright)


def path_problem(path: Path | str, error: OSError | ValueError) -> str:
    """Why a path leads to no file that can be read, and what to do, by the system's error."""
    where = str(path) or "''"
    if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return f"{where[:80]!r}: no file can have such a name; give the path of a picture"
    if os.path.islink(path) and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
        return f"{where}: is a link to {os.readlink(path)}, which leads nowhere; mend or delete the link"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if re.match(r"[a-z]+://", where):
            return f"{where}: is an address; download the picture and give the file"
        return f"{where}: not found; check the name" + ("" if os.path.isabs(path) else f" (looked in {os.getcwd()})")
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}: may not be read ({error.strerror}); change its permissions or those of the folders above it"
    return f"{where}: cannot be read ({error.strerror or error}); check the disk or the connection to it, and try again"


def kind_of_place(mode: int) -> str | None:
    """What a path leads to that is no file, and what to do, by the mode of `os.stat`; None for a file."""
    return next((kind for test, kind in _KINDS if test(mode)), None)


@contextmanager
def _opened(path: Path | str) -> Iterator[BinaryIO]:
    try:
        mode = os.stat(path).st_mode  # before it is opened, which would wait for a pipe's other end
        if (kind := kind_of_place(mode)) is not None:
            raise DataError(f"{path}: is {kind}")
        file = open(path, "rb")  # noqa: SIM115, it is closed below
    except (OSError, ValueError) as error:
        raise DataError(path_problem(path, error)) from error
    with file:
        yield file


def _decoded(file: BinaryIO, where: str, upright: bool) -> Image.Image:
    head = b""
    try:
        head = file.read(_HEAD)
        file.seek(0)
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            if not add_plugins():
                raise
            file.seek(0)
            image = Image.open(file)
    except Exception as error:  # the decoders raise anything for a damaged file
        raise DataError(_problem(where, error, head)) from error
    return _rgb(image, where, head, upright)


def _rgb(image: Image.Image, where: str, head: bytes, upright: bool) -> Image.Image:
    try:
        _mark(image)
        stored = image.getexif().get(_ORIENTATION, 1)  # loads some kinds
        image.load()
        left = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # as above
        raise DataError(_problem(where, error, head)) from error
    turn = _UPRIGHT.get(left) if upright else None
    if not upright and left == 1:
        turn = _BACK.get(stored)  # Pillow has turned it, as it does with a TIFF while loading
    if image.mode == "RGB" and "transparency" not in image.info and not image.getexif():
        return image if turn is None else image.transpose(turn)
    try:
        rgb = to_rgb(image)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # as above
        raise DataError(_problem(where, error, head)) from error
    return rgb if turn is None else rgb.transpose(turn)


def _mark(image: Image.Image) -> None:
    """Brings what a PNG marks as transparent to 8 bits; Pillow leaves it as in the file."""
    tile = getattr(image, "tile", None)
    if image.format == "PNG" and tile and "transparency" in image.info and (change := _MARKED.get(tile[0][3])):
        image.info["transparency"] = change(image.info["transparency"])


def _problem(where: str, error: Exception, head: bytes) -> str:
    # The system's; the decoders' own have no number, and a damaged one's jump to before its start gives EINVAL.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return path_problem(where, error)
    start = f"{where}: cannot be decoded as a picture"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return (
            f"{start}: it has more than {most:,} pixels, and might fill the memory; save it smaller, or if you trust "
            f"it, raise PIL.Image.MAX_IMAGE_PIXELS ({error})"
        )
    if isinstance(error, UnidentifiedImageError):
        return f"{start}: {what_it_is(head)}"
    if isinstance(error, EOFError) or re.search("truncated|unexpected end", str(error), re.IGNORECASE):
        return f"{start}: it is cut off ({error or 'its end is missing'}); fetch it again"
    if isinstance(error, ValueError) and "closed image" in str(error):
        return f"{start}: it was closed; open it again, or give its path"
    if isinstance(error, MemoryError):
        return f"{start}: there is not enough memory for it; save it smaller"
    return f"{start}: it is damaged ({str(error) or type(error).__name__}); fetch it again, or save it anew"
