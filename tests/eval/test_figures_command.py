"""`python -m pipelines.figures` on a photograph and on a referring set."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from caft.pretrained import save_model
from pipelines.figures import main

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(small, model, tmp_path_factory):
    """A folder with a model at random weights and a photograph, and no settings."""
    place = tmp_path_factory.mktemp("figures")
    save_model(model, place / "model.safetensors", {**model.card, "model": model.config.model_dump(mode="json")})
    Image.fromarray(skimage.data.chelsea()).save(place / "cat.png")
    return place


@pytest.fixture
def figures(folder, monkeypatch, capsys):
    """Gives a function that runs the command in a folder: its exit code, and what it wrote to both streams."""

    def run(*arguments, where=folder):
        command = ["figures", "--model", folder / "model.safetensors", *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        monkeypatch.chdir(where)
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


def test_a_photograph_and_a_text_need_no_data_set(folder):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pipelines.figures", "cat.png", "A cat with green eyes. Its nose is pink."]
    command += ["-o", "out.png", "--model", folder / "model.safetensors"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out.png\n"
    drawn = np.asarray(Image.open(folder / "out.png"))
    assert drawn.shape[1] == 4 * 224 + 3 * 8 + 2 * 12  # superpixels and three levels of segments
    assert drawn.shape[0] > 3 * 149  # and two sentences below, 300 x 451 scaled to 224 wide


def test_a_folder_gets_single_pictures(folder, figures):
    assert figures("cat.png", "A cat.", "-o", "parts")[0] == 0
    names = {path.name for path in (folder / "parts").iterdir()}
    assert len(names) == 7 and {"0-64-superpixels.png", "1-picture.png", "1-attention.png", "1-mask.png"} <= names
    assert Image.open(folder / "parts/1-mask.png").size == (224, 149)


def test_examples_of_a_set_fit_the_first_screen(folder, figures, small):
    (small[1] / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    code, _, errors = figures("--set", "sentence", "-o", folder / "overlay.png", where=small[1])
    assert code == 0, errors
    assert (folder / "overlay.png").stat().st_size < 150_000
    assert Image.open(folder / "overlay.png").width < 1000
    code, _, errors = figures("--set", "random", "-o", folder / "overlay.png", where=small[1])
    assert code == 2 and "no such set of referring expressions; known are phrase, phrase_place, sentence" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.png", "A cat.", "-o", "out.png"], "absent.png"),
        (["cat.png", "  ", "-o", "out.png"], "has no sentence; give words to look for"),
        (["cat.png", "A cat.", "-o", "out.jpg"], "out.jpg: expected a name that ends in .png"),
        (["cat.png", "A cat."], "-o/--output"),
        (["-o", "out.png"], "give either a picture and a text, or --set"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(figures, arguments, words):
    code, _, errors = figures(*arguments)
    assert code == 2 and words in errors
