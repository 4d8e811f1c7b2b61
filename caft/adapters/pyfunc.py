"""A model as MLflow's `pyfunc` flavour: a table of pictures and captions in, a score for each row out.

MLflow imports this module by its name and calls `_load_pyfunc`, so nothing is pickled.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft.errors import DataError
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.model import Model
from caft.weights.load import load

# Names in the folder that MLflow keeps.
WEIGHTS, CARD = "model.safetensors", "model.json"
COLUMNS = ("image", "caption")
# The distributions that loading and scoring take; those of pyproject.toml.
_CORE = ("torch", "numpy", "Pillow", "pydantic", "ruamel.yaml", "safetensors", "ftfy", "instant-clip-tokenizer")
_DATA_URL = ";base64,"


class PairScores:
    """Scores rows of a table; what MLflow calls."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Scores each row's picture with its caption, as `Model.similarity` does.

        Args:
            model_input: A table (pandas) with the columns `image`, the path of a file or its bytes in base64, with or
                without the head of a data URL, and `caption`, a text of any length.
            params: `part_weight`, in [0, 1].

        Returns:
            Scores (rows,), larger is better.

        Raises:
            DataError: A picture is neither a file nor base64, or cannot be decoded; a caption has no sentence.
        """
        pictures, captions = (list(model_input[column]) for column in COLUMNS)
        if not pictures:
            return np.zeros(0)
        weight = float((params or {}).get("part_weight", default_part_weight(self.model.network.has_part)))
        of_picture, images = _numbered(pictures)
        of_caption, texts = _numbered(captions)
        encoded = self.model.encode_images([_picture(image, row) for row, image in enumerate(images)])
        known = self.model.encode_captions(texts)
        scores = np.zeros(len(pictures))
        for number in range(len(images)):
            rows = np.flatnonzero(of_picture == number)
            one, asked = _images(encoded, number), _captions(known, of_caption[rows])
            scores[rows] = self.model.similarity(one, asked, weight)[0].numpy()
        return scores


def _load_pyfunc(path: str) -> PairScores:
    """Called by MLflow with the folder that holds weights and card."""
    return PairScores(load(Path(path) / WEIGHTS))


def default_part_weight(has_part: bool) -> float:
    """CAFT++'s weight of Table 1, or none where there are no parts."""
    return 0.3 if has_part else 0.0


def requirements(splitter: str) -> list[str]:
    """Distributions that the model needs, each of the version that is installed here.

    Args:
        splitter: The card's; `spacy` reads sentences exactly as in training only where spaCy is installed.
    """
    found = []
    for name in (*_CORE, "spacy") if splitter == "spacy" else _CORE:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:  # such as the tokenizer's, on Linux on Arm
            continue
        found.append(f"{name}=={version.partition('+')[0]}")  # 2.13.0+cpu is not in the index
    return found


def _numbered(values: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """For each value its number among the different ones, and these, in the order of their first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=np.intp), list(numbers)


def _picture(text: str, number: int) -> Path | bytes:
    head, found, content = text.partition(_DATA_URL)
    if not found:
        content = text
        try:
            if Path(text).is_file():
                return Path(text)
        except OSError:  # a name may not be as long as a picture
            pass
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise DataError(f"picture {number}, {shown!r}: no such file here, and not base64 of one") from None


def _images(encoded: EncodedImages, number: int) -> EncodedImages:
    at = slice(number, number + 1)
    return EncodedImages(encoded.whole[at], None if encoded.part is None else encoded.part[at])


def _captions(encoded: EncodedCaptions, rows: NDArray[np.intp]) -> EncodedCaptions:
    parts = None if encoded.parts is None else encoded.parts[rows]
    return replace(encoded, whole=encoded.whole[rows], parts=parts)
