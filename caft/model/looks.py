"""Where sentences look in a picture, and whether the picture bears them out, with the picture encoded once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.model.maps import attention_maps
from caft.model.match import SentenceMatch, matches, require_part_level
from caft.network.caft import CAFT


def look(
    network: CAFT, image: Image.Image, texts: Sequence[str], references: Sequence[str], size: tuple[int, int]
) -> tuple[list[SentenceMatch], NDArray[np.float32]]:
    """What `caft.model.match.match` and `caft.model.maps.ground` give for the same texts; maps (T, height, width).

    Raises:
        DataError: As `match`.
    """
    require_part_level(network, texts, references)
    features = next(encode_squashed(network, [image]))
    found = matches(network, features, encode_sub_captions(network, [*texts, *references]), texts)
    # Again, and alone: in another batch the last digits differ, and a map would not be `ground`'s to the bit.
    return found, attention_maps(network, features, encode_sub_captions(network, texts), size)
