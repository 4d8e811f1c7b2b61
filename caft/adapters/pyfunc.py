"""A model as MLflow's `pyfunc` flavour: a table of pictures and captions in, a score for each row out.

MLflow imports this module by its name and calls `_load_pyfunc`, so nothing is pickled.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft.adapters.table import COLUMNS, FOLDER, Files, caption, columns, numbered, picture
from caft.errors import DataError
from caft.model.encoding import EncodedCaptions, EncodedImages, token_rows
from caft.model.model import Model
from caft.transforms import center_crop
from caft.weights.load import load

# Names in the folder that MLflow keeps.
WEIGHTS, CARD = "model.safetensors", "model.json"
# The distributions that loading and scoring take; those of pyproject.toml.
_CORE = ("torch", "numpy", "Pillow", "pydantic", "ruamel.yaml", "safetensors", "ftfy", "instant-clip-tokenizer")
_SERVER = "__pyfunc_model_path__"  # set by `mlflow models serve` for its workers
_SHOWN = 5  # rows in an error

__all__ = ["CARD", "COLUMNS", "WEIGHTS", "PairScores", "ServedScores", "default_part_weight", "requirements"]


class PairScores:
    """Scores rows of a table; what MLflow calls.

    Args:
        model: The model.
        files: Which files a path in a row may name.
    """

    def __init__(self, model: Model, files: Files | None = None) -> None:
        self.model, self.files = model, files or Files()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Scores each row's picture with its caption, as `Model.similarity` does.

        Args:
            model_input: A table with the columns `image` (see `caft.adapters.table.picture`) and `caption`, a text of
                any length; see `caft.adapters.table.columns` for the forms that a table may have.
            params: `part_weight`, in [0, 1].

        Returns:
            Scores (rows,), larger is better.

        Raises:
            DataError: Names the first rows that cannot be scored, and why; or a column or parameter that is wrong.
        """
        weight = self._part_weight({} if params is None else params)
        pictures, captions = columns(model_input)
        if not pictures:
            return np.zeros(0)
        wrong: dict[int, str] = {}
        of_caption, texts = numbered(captions)
        for number, text in enumerate(texts):
            try:
                token_rows(self.model.card, [caption(text)], self.model.network.context)
            except DataError as error:
                what = str(error).removeprefix("caption 0: ")
                wrong |= {row: f"caption: {what}" for row in np.flatnonzero(of_caption == number).tolist()}
        of_picture, different = numbered(pictures)
        crops = []
        for number, value in enumerate(different):
            try:
                # Cropped at once: whole pictures of a long table do not fit into memory.
                crops.append(center_crop(picture(value, self.files), self.model.network.image_size))
            except DataError as error:
                wrong |= {row: f"image {error}" for row in np.flatnonzero(of_picture == number).tolist()}
        if wrong:
            raise DataError(_listed([f"row {row}, {wrong[row]}" for row in sorted(wrong)]))
        encoded, known = self.model.encode_images(crops), self.model.encode_captions(texts)
        scores = np.zeros(len(pictures))
        for number in range(len(different)):
            rows = np.flatnonzero(of_picture == number)
            one, asked = _images(encoded, number), _captions(known, of_caption[rows])
            scores[rows] = self.model.similarity(one, asked, weight)[0].numpy()
        return scores

    def _part_weight(self, params: Mapping[str, Any]) -> float:
        if unknown := [str(name) for name in params if name != "part_weight"]:
            raise DataError(f"parameter {unknown[0]}: is not known; the only one is part_weight")
        weight = params.get("part_weight")
        has_part = self.model.network.has_part
        if weight is None:
            return default_part_weight(has_part)
        if (
            not isinstance(weight, int | float | np.integer | np.floating)
            or isinstance(weight, bool)
            or not 0 <= weight <= 1
        ):
            raise DataError(f"part_weight = {weight!r}: expected a number from 0 to 1")
        if weight and not has_part:
            raise DataError(f"part_weight = {weight!r}: the model has no part level; give 0, or leave it out")
        return float(weight)


class ServedScores(PairScores):
    """The same behind MLflow's server, which tells its client what is wrong only by errors of its own kind."""

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """As `PairScores.predict`.

        Raises:
            MlflowException: What `PairScores.predict` says, as a bad request.
        """
        from mlflow.exceptions import MlflowException

        try:
            return super().predict(model_input, params)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _load_pyfunc(path: str) -> PairScores:
    """Called by MLflow with the folder that holds weights and card.

    Where `CAFT_IMAGE_FOLDER` names a folder, only files in it are opened; a server without it opens none.
    """
    model, folder = load(Path(path) / WEIGHTS), os.environ.get(FOLDER)
    is_server = _SERVER in os.environ
    files = Files(Path(folder)) if folder else Files(allowed=not is_server)
    return (ServedScores if is_server else PairScores)(model, files)


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


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "\n".join([f"{len(problems)} rows cannot be scored", *shown, *more])


def _images(encoded: EncodedImages, number: int) -> EncodedImages:
    at = slice(number, number + 1)
    return EncodedImages(encoded.whole[at], None if encoded.part is None else encoded.part[at])


def _captions(encoded: EncodedCaptions, rows: NDArray[np.intp]) -> EncodedCaptions:
    parts = None if encoded.parts is None else encoded.parts[rows]
    return replace(encoded, whole=encoded.whole[rows], parts=parts)
