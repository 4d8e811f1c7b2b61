"""What a user gives to a model's methods, in each form that it may have: pictures, texts and numbers."""

import math
from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from caft.errors import ArgumentError, DataError
from caft.transforms import open_image

# A path, an encoded file (its bytes, or what reads them), a Pillow image, a tensor (3, H, W), or an array (H, W),
# (H, W, 3) or (H, W, 4); the pixels of tensors and arrays are uint8, or floats in [0, 1].
Picture = Path | str | bytes | bytearray | memoryview | BinaryIO | Image.Image | Tensor | NDArray[Any]
_BUFFERS = bytes | bytearray | memoryview
# Height times width of a map: as much as Pillow opens of a picture.
_MOST_PIXELS = 178_956_970
_FORMS = "a path, bytes, a Pillow image, a tensor or an array"


# ---------------------------------------------------------------------- pictures


def open_picture(picture: Picture) -> Image.Image:
    """An RGB image, as it is meant to be seen; see `open_image` for what that is.

    Raises:
        DataError: It cannot be decoded, or has no pixels.
        ArgumentError: An object that is not a picture, or a tensor or array of another shape or other values.
    """
    if isinstance(picture, Tensor):
        picture = _from_tensor(picture)
    elif isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    elif isinstance(picture, _BUFFERS):
        picture = bytes(picture)
    elif hasattr(picture, "read"):
        picture = _content(picture)
    elif not isinstance(picture, Path | str | Image.Image):
        raise ArgumentError(f"a picture is {_FORMS}, found {_found(picture)}")
    if isinstance(picture, Image.Image):
        _require_pixels(*picture.size)
    return open_image(picture)


def several(images: Picture | Iterable[Picture]) -> list[Picture]:
    """The pictures of one or many, read from any iterable; a tensor (B, 3, H, W) or array (B, H, W, 3 or 4) is many.

    Raises:
        ArgumentError: Neither a picture nor an iterable with an order.
    """
    if isinstance(images, Tensor):
        return list(images) if images.dim() == 4 else [images]
    if isinstance(images, np.ndarray):
        if images.dtype.kind in "biufc":
            return list(images) if images.ndim == 4 else [images]
        if images.ndim == 0:
            return [images.item()]
        if images.ndim > 1:  # numpy makes it of a list of pictures
            raise ArgumentError(
                f"pictures: found an array of {images.dtype} of shape {images.shape}; give a list of pictures, or "
                "pixels as uint8"
            )
    if isinstance(images, Path | str | _BUFFERS | Image.Image):
        return [images]
    if hasattr(images, "read"):
        return [cast(BinaryIO, images)]
    return _listed(images, f"pictures: expected {_FORMS}, or several of them", "image")


def one_picture(image: Picture | Iterable[Picture]) -> Picture:
    """The one picture that was given, alone or in a list of one.

    Raises:
        ArgumentError: There are more, or it is none.
    """
    given = several(image)
    if len(given) != 1:
        raise ArgumentError(f"expected one picture, found {len(given)}; call the method for each of them")
    return given[0]


def _content(file: Any) -> bytes:
    """All that an open file holds, wherever it stands."""
    try:
        if file.seekable():
            file.seek(0)
        content = file.read()
    except (AttributeError, OSError, ValueError) as error:
        raise ArgumentError(f"the given file cannot be read ({error}); give its path, or open it anew") from None
    if not isinstance(content, bytes):
        raise ArgumentError(f"the given file gives {type(content).__name__}, expected bytes; open it with mode 'rb'")
    return content


def _from_tensor(tensor: Tensor) -> Image.Image:
    if tensor.dim() != 3 or len(tensor) != 3:
        raise ArgumentError(
            f"expected a picture as a tensor (3, H, W), or several as (B, 3, H, W); found shape {tuple(tensor.shape)}"
        )
    if tensor.dtype == torch.bfloat16:  # numpy has none
        tensor = tensor.float()
    return _from_array(tensor.detach().permute(1, 2, 0).cpu().numpy())


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ArgumentError(
            "expected a picture as an array (H, W), (H, W, 3) or (H, W, 4), or several as (B, H, W, 3); found shape "
            f"{array.shape}"
        )
    _require_pixels(array.shape[1], array.shape[0])
    if array.dtype.kind == "f":
        least, most = float(array.min()), float(array.max())
        if not (least >= 0 and most <= 1):
            raise ArgumentError(
                "a picture of floats must lie in [0, 1], without normalisation, which the model does itself; "
                f"found {least:g} to {most:g}"
            )
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise ArgumentError(f"expected a picture as uint8, or as floats in [0, 1]; found {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _require_pixels(width: int, height: int) -> None:
    if not width or not height:
        raise DataError(f"the picture is {width} x {height} pixels; give one that has some")


# ---------------------------------------------------------------------- texts


def texts(given: str | Iterable[str], name: str = "text") -> list[str]:
    """The texts of one or many, read from any iterable with an order: a list, a numpy array, a pandas Series.

    Raises:
        ArgumentError: Neither a text nor an iterable of texts.
    """
    if isinstance(given, str):
        return [given]
    if isinstance(given, np.ndarray) and given.ndim == 0:
        given = [given.item()]
    found = _listed(given, f"{name}s: expected a text, or several", "caption")
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise ArgumentError(f"{name} {number}: expected a text (str), found {_found(text)}")
    return [str(text) for text in found]


# ---------------------------------------------------------------------- numbers


def whole_number(value: int, name: str) -> int:
    """A number of things, from 1.

    Raises:
        ArgumentError: It is no whole number, or less than 1.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < 1:
        raise ArgumentError(f"{name}: expected a whole number from 1, found {value!r}")
    return int(value)


def share(value: float, name: str) -> float:
    """A number from 0 to 1.

    Raises:
        ArgumentError: It is no number, not finite, or lies outside.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ArgumentError(f"{name}: expected a number from 0 to 1, found {value!r}")
    return float(value)


def map_size(value: Any) -> tuple[int, int]:
    """Height and width of a map.

    Raises:
        ArgumentError: They are not two whole numbers from 1, or have more pixels than a picture may.
    """
    sides = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise ArgumentError(f"size: expected height and width, found {value!r}")
    height, width = (whole_number(side, f"size, {name}") for side, name in zip(sides, ("height", "width"), strict=True))
    if height * width > _MOST_PIXELS:
        raise ArgumentError(f"size: {height} x {width} is more than {_MOST_PIXELS:,} pixels; give a smaller one")
    return height, width


def device(value: torch.device | str) -> torch.device:
    """A place for weights that is there.

    Raises:
        ArgumentError: There is no such device here, or it keeps no values.
    """
    try:
        found = torch.device(value)
        torch.empty(0, device=found)
        why = "it keeps no values" if found.type == "meta" else ""
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if why:
        raise ArgumentError(
            f"device: {value!r} cannot be used here ({why}); give 'cpu', or 'cuda' where there is a GPU"
        )
    return found


def _listed(given: Any, expected: str, column: str) -> list[Any]:
    if hasattr(given, "columns"):
        raise ArgumentError(f'{expected}; found a table ({_found(given)}); give one of its columns, table["{column}"]')
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise ArgumentError(f"{expected}; found {_found(given)}")
    return list(given)


def _found(thing: Any) -> str:
    missing = isinstance(thing, Real) and math.isnan(thing)
    return f"{type(thing).__name__}{' (nan, a missing value)' if missing else ''}"
