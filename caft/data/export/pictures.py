"""Pictures as any program shows them: those that only viewers get right are written anew."""

from __future__ import annotations

import io

from PIL import Image

from caft.transforms import open_image

_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_ORIENTATION = 274


def plain(content: bytes) -> tuple[str, bytes]:
    """Ending and bytes of a picture that programs read alike, with Pillow and `convert("RGB")` as with anything else.

    That is the file itself where it is a JPEG, PNG or WebP, upright, of one frame, grey or RGB of 8 bits and without
    transparency; else what `open_image` makes of it, as a PNG, which loses nothing.

    Raises:
        DataError: The picture cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = image.getexif().get(_ORIENTATION, 1) in (0, 1)
            still = getattr(image, "n_frames", 1) == 1 and "transparency" not in image.info
            if image.format in _ENDINGS and image.mode in ("RGB", "L") and upright and still:
                return _ENDINGS[image.format], content
    except Exception:  # Pillow raises anything for a damaged file; `open_image` opens it or says why not
        pass
    buffer = io.BytesIO()
    open_image(content).save(buffer, "PNG")
    return "png", buffer.getvalue()
