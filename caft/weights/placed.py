"""Models for work: onto the GPU where there is one, and arithmetic lets it."""

from pathlib import Path
from typing import TypeVar

import torch

from caft.model.model import Model
from caft.model.protocols import RetrievalModel
from caft.params import arithmetic
from caft.weights.load import load

_AnyModel = TypeVar("_AnyModel", bound=RetrievalModel)


def load_model(path: Path | str = "models/caft.safetensors") -> Model:
    """Loads a model for evaluation, onto the GPU if there is one and arithmetic is native.

    Raises:
        CheckpointError: Its files are missing or damaged.
    """
    return on_device(load(path))


def on_device(model: _AnyModel) -> _AnyModel:
    """Moves a model's weights, in place, to the GPU if there is one and arithmetic is native, else to the CPU."""
    on_gpu = torch.cuda.is_available() and arithmetic.current() == "native"
    model.network.to("cuda" if on_gpu else "cpu")
    return model
