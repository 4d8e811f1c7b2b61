"""Pixels of every kind that Pillow knows to RGB with 8 bits per channel, by one stated rule for each."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.errors import DataError

_PHOTOMETRIC, _BITS = 262, 258  # tags of a TIFF
# Ends of the ranges that values of no stated range may have, and the least that the largest value must then be.
_RANGES = ((1, 0), (255, 32), (65535, 8192))


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as RGB, without what else its file said (as its orientation).

    - 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV, LAB: as Pillow converts them; colour profiles are not applied. A JPEG in
      CMYK is taken as Adobe writes it, inverted.
    - LA, La, PA, RGBA, RGBa, and a palette, grey value or colour that is marked as transparent: on white.
    - I;16 in every byte order, and what a 16-bit PGM gives: 0 to 65535; a TIFF of 12 bits: 0 to 4095. Of colours with
      16 bits Pillow keeps the upper 8.
    - F and I (floats, 32-bit integers) state no range: it is 0 to 1, 0 to 255 or 0 to 65535, the first that holds all
      values. If the largest value is then less than an eighth of the range's end, the range is not clear.

    Raises:
        DataError: Floats or 32-bit integers that are not finite, lie outside these ranges, or do not tell which it is.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        image = _grey(image)
    if image.mode == "La":
        image = image.convert("LA")  # Pillow has no other way from it
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    image = image.convert("RGB")
    image.info.clear()  # else a picture that was turned would be turned again
    return image


def _grey(image: Image.Image) -> Image.Image:
    """Values of more than 8 bits as L; those marked as transparent become white."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        top = 4095 if tags.get(_BITS) == (12,) else 65535
    else:
        top = 65535 if image.mode == "I" and image.format == "PPM" else _range(values)
    if values.dtype.kind == "f":
        scaled = np.rint(values * (255 / top))
    else:
        scaled = values.clip(0, top).astype(np.int64) * 255 // top
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow minds for 8 bits only
        scaled = 255 - scaled
    if isinstance(clear := image.info.get("transparency"), int):
        scaled = np.where(values == clear, 255, scaled)
    return Image.fromarray(scaled.astype(np.uint8))


def _range(values: NDArray[np.generic]) -> int:
    if not values.size:
        return 1
    if wrong := int(values.size - np.isfinite(values).sum()):
        raise DataError(f"{wrong} of {values.size} values are not finite; replace them, or save it with 8 bits")
    least, most = float(values.min()), float(values.max())
    for top, clear in _RANGES:
        if least >= 0 and most <= top and most >= clear:
            return top
        if most <= top:
            break
    raise DataError(
        f"its values go from {least:g} to {most:g}, which tells no range: expected 0 to 1, 0 to 255 (with a largest "
        "value of at least 32) or 0 to 65535 (at least 8192); save it with 8 bits per channel"
    )
