"""A model file and photographs, for commands and examples."""

import pytest
import skimage.data
from PIL import Image

from caft.weights.files import save_model


@pytest.fixture(scope="session")
def model_file(model, tmp_path_factory):
    """Weights and card of the random model."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(model.network, path, model.card)
    return path


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder with a cat, and an astronaut in a folder below."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "people").mkdir()
    Image.fromarray(skimage.data.chelsea()).save(folder / "cat.png")
    Image.fromarray(skimage.data.astronaut()).save(folder / "people/astronaut.jpg", quality=90)
    return folder
