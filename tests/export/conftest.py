"""A small model in its three forms, exported once."""

import os
from pathlib import Path

import pytest
import torch

from caft.model.card import ModelCard
from caft.model.model import Model
from caft.network.caft import CAFT
from caft.params import load_params
from caft.params.models import ModelParams
from caft.weights.files import save_model
from tests.peers import peer

PROJECT = Path(__file__).parents[2]


def sizes(*overlays: str) -> ModelParams:
    """Those of `tiny`, or of a row of Table 3."""
    rows = [PROJECT / f"pipelines/ablation/{row}.yaml" for row in overlays]
    return load_params(PROJECT / "params.yaml", rows).models["tiny"]


def random_network(config: ModelParams) -> CAFT:
    """Random weights that tell pictures apart, and batch norms that have seen some."""
    torch.manual_seed(0)
    network = CAFT(config, chunks=1 if config.is_flat_text else 4)
    with torch.no_grad():
        for parameter in network.vision.parameters():
            parameter.mul_(1.5)
        network.train()
        network.stem(torch.randint(0, 256, (8, 3, config.image_size, config.image_size), dtype=torch.uint8))
        for log_scale, bias in network.temperatures.values():
            log_scale.fill_(1.5)
            bias.fill_(-3.0)
    return network.eval()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> tuple[Model, Path]:
    """A model of 16 superpixels, whose graphs are traced in seconds, and its file."""
    tiny = sizes()
    text = tiny.text.model_copy(update={"sub_layers": 1})
    config = tiny.model_copy(update={"image_size": 32, "tokens": (16, 8, 4), "blocks": (1, 1, 1), "text": text})
    card = ModelCard(splitter="spacy", chunks=4, balanced_rule="paper", model=config, fingerprint="0123456789abcdef")
    model = Model(random_network(config), card)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_model(model.network, path, card)
    return model, path


@pytest.fixture(scope="session")
def exported(small_model, tmp_path_factory) -> Path:
    """A folder with what `caft export` writes of the small model: `onnx` with int8, and `programs`."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        peer(package)
    from caft.export.folder import Traced

    folder = tmp_path_factory.mktemp("exported")
    traced = Traced(*small_model, scores=lambda form: {})
    traced.write(folder / "onnx", "onnx", int8=True)
    traced.write(folder / "programs", "torch-export")
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a process that finds this project and the peers, and rounds as its user's would."""
    onnx = Path(str(peer("onnxruntime").__file__)).parents[1]
    kept = {name: value for name, value in os.environ.items() if name != "CAFT_ARITHMETIC"}
    return {**kept, "PYTHONPATH": f"{PROJECT}{os.pathsep}{onnx}", **more}
