"""What img2dataset's workers decode pictures with, in the place of OpenCV: what is stored is what a viewer shows."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from caft.data.crawl.causes import OTHER_KIND
from caft.errors import DataError
from caft.transforms import open_image

_opencv = cv2.imdecode


def decode(content: Any, flags: int) -> Any:
    """Decodes a picture as `caft.transforms.open_image` does; for plain JPEG and PNG, the values are OpenCV's.

    OpenCV as img2dataset calls it leaves a photo lying as its sensor lay, and makes 16 bits white.

    Args:
        content: The encoded picture, uint8 (bytes,).
        flags: Of `cv2.imdecode`, whose place this takes; not used.

    Returns:
        uint8 (H, W, 3), in OpenCV's order blue, green, red.

    Raises:
        DataError: It cannot be decoded. A picture that OpenCV alone would open is an error of its own: as nobody can
            say that the two see the same, it is lost, and counted.
    """
    encoded = content.tobytes()
    try:
        return np.ascontiguousarray(np.asarray(open_image(encoded))[..., ::-1])
    except DataError as error:
        if _is_other_kind(encoded) and _opencv(content, cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None:
            raise DataError(f"the picture {OTHER_KIND} ({error})") from error
        raise


def _is_other_kind(encoded: bytes) -> bool:
    """Whether Pillow does not even know what it is; what it knows and cannot decode is damaged, or too large."""
    try:
        Image.open(io.BytesIO(encoded)).close()
    except UnidentifiedImageError:
        return True
    except Exception:  # whatever a damaged header makes of a plug-in
        return False
    return False
