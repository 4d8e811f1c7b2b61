"""Pictures that a page shows and searches, small enough to be held in it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from caft.errors import DataError
from caft.model.drawing.figures import fit, webp
from caft.model.folder import list_pictures
from caft.pictures.reading import read_rgb

MOST = 512  # pictures
_SIDE = 384  # pixels of the longer side of a picture that is made smaller
_LARGEST = 32_000  # bytes of a file that is kept as it is, with all its pixels
# Of Pillow's kinds, those that every browser opens.
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Scene:
    """A picture as a page holds it: its name, a caption or nothing, the file's content and type."""

    name: str
    caption: str
    content: bytes
    type: str


@dataclass(frozen=True)
class Scenes:
    """Pictures of a page.

    Attributes:
        title: What they are.
        pictures: At most `MOST` of them.
        left_out: Reasons why pictures that cannot be read are not among them.
    """

    title: str
    pictures: Sequence[Scene] = ()
    left_out: Sequence[str] = field(default=())


def of_pairs(name: str, images: Sequence[Path], captions: Sequence[str]) -> Scenes:
    """The first pictures of some, with their captions.

    Raises:
        DataError: None of the pictures can be read.
    """
    found, left_out = list[Scene](), list[str]()
    for path, caption in zip(images, captions, strict=True):
        if len(found) == MOST:
            break
        try:
            found.append(_scene(path, caption))
        except DataError as error:
            left_out.append(str(error))
    if not found:
        raise DataError(f"{name}: none of its {len(images)} pictures can be read; the first: {left_out[0]}")
    part = f"{len(found)} picture{'s' if len(found) > 1 else ''}"
    if len(found) < len(images):
        part = f"the first {len(found)} of {len(images)} pictures"
    return Scenes(f"{name}: {part}", found, left_out)


def of_folder(folder: Path) -> Scenes:
    """The first pictures of a folder, each with the text beside it (`a.txt`), or in `caption/` beside `image/`, as caption.

    Raises:
        DataError: There is no such folder, no picture in it that can be read, or a text that is no UTF-8.
    """
    listed = list_pictures(folder)
    if not listed.pictures:
        found = f"; found {listed.counts()}" if listed.other else ""
        raise DataError(f"{folder}: no picture in it or below{found}; give a folder that holds pictures")
    paths = sorted(listed.pictures, key=_in_order)
    return of_pairs(folder.name or str(folder), paths, list(map(_caption, paths)))


def _in_order(path: Path) -> tuple[Path, int, str]:
    """Numbers as numbers: 2.jpg before 10.jpg."""
    return path.parent, int(path.stem) if path.stem.isdecimal() else -1, path.name


def _caption(picture: Path) -> str:
    places = [picture.with_suffix(".txt")]
    if picture.parent.name == "image":
        places.append(picture.parent.with_name("caption") / f"{picture.stem}.txt")
    for place in places:
        if place.is_file():
            try:
                return place.read_text(encoding="utf-8-sig").strip()
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{place}: cannot be read as a text in UTF-8 ({error}); give the caption there"
                ) from None
    return ""


def _scene(path: Path, caption: str) -> Scene:
    picture = read_rgb(path, upright=True)
    kept = _as_it_is(path)
    if kept is None:
        small = fit(picture, _SIDE) if max(picture.size) > _SIDE else picture
        kept = webp(small), "image/webp"
    return Scene(path.name, caption, *kept)


def _as_it_is(path: Path) -> tuple[bytes, str] | None:
    """Content and type of a small file that a browser opens as Pillow does."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        plain = image.mode in ("L", "RGB") and image.getexif().get(_ORIENTATION, 1) == 1
        kind = _TYPES.get(image.format or "") if plain else None
    return (content, kind) if kind is not None and len(content) <= _LARGEST else None
