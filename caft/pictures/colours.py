"""Pixels of every kind that Pillow knows to RGB with 8 bits per channel, by one stated rule for each."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.errors import DataError

_PHOTOMETRIC, _BITS, _SAMPLE = 262, 258, 339  # tags of a TIFF
_SIGNED = 2  # of _SAMPLE
# Formats whose values of 16 bits fill them by their standards, however dark the picture; Pillow sees to that of PPM.
_FILLED = frozenset({"PNG", "JPEG2000", "PPM"})


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as RGB, without what else its file said (as its orientation).

    - 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV, LAB: as Pillow converts them; colour profiles are not applied. A JPEG in
      CMYK is taken as Adobe writes it, inverted.
    - LA, La, PA, RGBA, RGBa, and a palette, grey value or colour that is marked as transparent: on white.
    - 16 bits of a PNG, PGM or JPEG 2000: 0 to 65535, as these formats say; a TIFF of 12 bits: 0 to 4095. Of colours
      with 16 bits Pillow keeps the upper 8.
      10 or 12 bits that such a file does not scale up are nearly black, as in every viewer: PNG's chunk sBIT does not say
      that they were left so, but from how many bits the values were scaled, and TIFF's MaxSampleValue is by TIFF 6.0 not
      to change how a picture looks.
    - Any other I;16, in every byte order: 0 to 65535. A TIFF often has 10 or 12 bits in 16, which would be nearly black:
      if the largest value is less than an eighth of the range's end, and not 0, the range is not clear.
    - F and I (floats, integers of 32 bits or 16 with a sign) state no range: it is 0 to 1, 0 to 255 or 0 to 65535 (with
      a sign 32767), the first that holds all values, and clear by the same test.

    Raises:
        DataError: Values that are not finite, lie outside these ranges, or do not tell which it is; a TIFF of 8 bits
            with a sign, whose range Pillow does not keep.
    """
    if _is_signed(image, 8):
        raise DataError("its values are of 8 bits with a sign, of no clear range; save it as unsigned, 0 to 255")
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
    if tags.get(_BITS) == (12,):
        top = 4095
    elif image.format in _FILLED and image.mode != "F":
        top = 65535
    elif image.mode.startswith("I;16"):
        top = _filled(values)
    else:
        top = _range(values, 32767 if _is_signed(image, 16) else 65535)
    if values.dtype.kind == "f":
        scaled = np.rint(values * (255 / top))
    else:
        scaled = values.clip(0, top).astype(np.int64) * 255 // top
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow minds for 8 bits only
        scaled = 255 - scaled
    if isinstance(clear := image.info.get("transparency"), int):
        scaled = np.where(values == clear, 255, scaled)
    return Image.fromarray(scaled.astype(np.uint8))


def _is_signed(image: Image.Image, bits: int) -> bool:
    tags = getattr(image, "tag_v2", {})
    return _SIGNED in tags.get(_SAMPLE, ()) and bits in tags.get(_BITS, ())


def _filled(values: NDArray[np.generic]) -> int:
    if values.size and 0 < (most := int(values.max())) < 8192:
        raise DataError(
            f"its largest value is {most} of 65535, as with 10 or 12 bits in 16: the range is not clear (expected a "
            "largest value of at least 8192); scale its values to fill 0 to 65535, or save it with 8 bits per channel"
        )
    return 65535


def _range(values: NDArray[np.generic], end: int) -> int:
    """The first of the ranges that holds all values, the last of which goes to `end`."""
    if not values.size:
        return 1
    if wrong := int(values.size - np.isfinite(values).sum()):
        raise DataError(f"{wrong} of {values.size} values are not finite; replace them, or save it with 8 bits")
    least, most = float(values.min()), float(values.max())
    for top, clear in ((1, 0), (255, 32), (end, (end + 1) // 8)):  # and the least that the largest value must be
        if least >= 0 and most <= top and most >= clear:
            return top
        if most <= top:
            break
    raise DataError(
        f"its values go from {least:g} to {most:g}, which tells no range: expected 0 to 1, 0 to 255 (with a largest "
        f"value of at least 32) or 0 to {end} (at least {(end + 1) // 8}); save it with 8 bits per channel"
    )
