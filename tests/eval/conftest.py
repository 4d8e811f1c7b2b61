"""A small random model and a few rendered images with their annotations, for tests that need the real thing."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from caft.data.benchmarks import load_referring
from caft.data.scenes.benchmarks import write_benchmarks
from caft.model import CAFT
from caft.params import load_params

CARD = {"splitter": "dreamlip", "chunks": 4, "balanced_rule": "paper", "fingerprint": "0123456789abcdef"}


@pytest.fixture(scope="session")
def model():
    """The tiny model at random weights, with a part level and temperatures that are not at their start."""
    torch.manual_seed(0)
    built = CAFT(load_params("params.yaml").models["tiny"], chunks=4).eval()
    with torch.no_grad():
        built.part_bias.fill_(-3.0)
        built.part_log_scale.fill_(1.5)
        built.whole_log_scale.fill_(2.5)
        for parameter in built.vision.parameters():  # else all images look alike to random weights
            parameter.mul_(1.5)
    built.card = dict(CARD)
    return built


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Six JPEG files of 60 x 40 pixels (wider than high), each a few flat rectangles."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(6):
        pixels = np.full((40, 60, 3), rng.integers(0, 255, 3), np.uint8)
        for _ in range(4):
            y, x = rng.integers(0, 30), rng.integers(0, 45)
            pixels[y : y + 15, x : x + 20] = rng.integers(0, 255, 3)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=95)
    return paths


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Settings of small rendered sets, and the folder where they lie: 16 images, 8 regions a file."""
    folder = tmp_path_factory.mktemp("scenes")
    overlay = {
        "corpus": {"scenes": {"evaluation_images": 16, "regions": 8}},
        "benchmarks": {name: {"pairs": 16} for name in ("random", "look_alike")},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(overlay))
    params = load_params("params.yaml", [folder / "small.yaml"])
    write_benchmarks(folder / "data/benchmarks/scenes", params.corpus["scenes"])
    return params, folder


@pytest.fixture(scope="session")
def scenes(small):
    """The referring sets, by name."""
    params, folder = small
    found = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind == "referring":
            found[name] = load_referring(benchmark.model_copy(update={"path": str(folder / benchmark.path)}))
    return found
